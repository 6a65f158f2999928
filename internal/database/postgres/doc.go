// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package postgres rotates the logins of PostgreSQL 15 and later.
//
// A credential has two logins, <username>_a and <username>_b, which are used in turn. Both act as one owner role from the
// first statement on (ALTER ROLE ... SET role), so that each can change what the other creates. The password leaves this
// process only in a SCRAM exchange: statements carry its verifier.
//
// # One transaction
//
// Stage and Retire lock the login (with an advisory lock, which works among processes connected to the same database), alter
// it, then read its marker, give up if that is newer or names another owner, and write ours:
//
//	COMMENT ON ROLE orders_app_a IS 'rekey <cluster>/<namespace>/<name> seq=7'
//
// The server itself terminates what hangs: lock_timeout, statement_timeout and the idle timeouts are set on every connection
// of the admin, whose application_name names the credential. A statement whose client died may still be running; Verify
// returns Rejected only if no connection of that name is left and the login was refused again after that.
//
// # Verify
//
// Verify logs in over the TLS of the spec, as the application does: SCRAM only, bound to the TLS channel. The login must act
// as the owner, and a wrong password must be refused. The admin's connection only decides whether a refusal is final, and
// finds the cause in the catalog: a login that lacks what Stage grants is Rejected, and staging again fixes it
// (capability.go).
//
// # What the admin needs
//
// The admin must be able to connect to the database "postgres", or to the one that the spec names, or to the credential's.
// Up to PostgreSQL 15:
//
//	CREATE ROLE rotator LOGIN CREATEROLE PASSWORD '...';
//
// CREATEROLE is close to superuser there: it may change the password of every role that is not a superuser. From PostgreSQL
// 16 on it applies only to the roles that were granted to it:
//
//	CREATE ROLE rotator LOGIN CREATEROLE PASSWORD '...';
//	GRANT orders_owner TO rotator WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;  -- each allowed owner
//	GRANT orders_app_a TO rotator WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;  -- only if another admin created the login
//
// Optional: with the following grants our statements stay out of the log, and sessions are shown with their addresses:
//
//	GRANT SET ON PARAMETER log_statement, log_min_error_statement, log_min_duration_statement TO rotator;
//	GRANT SET ON PARAMETER log_min_duration_sample, log_transaction_sample_rate TO rotator;
//	GRANT pg_read_all_stats TO rotator;
package postgres
