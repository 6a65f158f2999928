// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package postgres rotates the logins of PostgreSQL 15 and later.
//
// A credential has two logins, <username>_a and <username>_b, which take turns. Both act as one owner role from the first
// statement on (ALTER ROLE ... SET role), so that what the one creates the other may change. The password never leaves
// this process but in a SCRAM exchange: statements carry its verifier.
//
// # One transaction
//
// Stage and Retire lock the login (an advisory lock, which holds among those that work from one database), alter it, then
// read its marker, give up if that is newer or names another owner, and write ours:
//
//	COMMENT ON ROLE orders_app_a IS 'rekey <cluster>/<namespace>/<name> seq=7'
//
// The server itself ends what hangs: lock_timeout, statement_timeout and the idle timeouts are set on every connection of
// the admin, whose application_name names the credential. A statement whose client died may still be under way; Verify
// says Rejected only when no connection of that name is left, and the login was refused again after that.
//
// # Verify
//
// A login over the TLS of the spec, as the application does it: SCRAM only, bound to the TLS channel. It must act as the
// owner, and a wrong password must be refused. The admin's connection decides only whether a refusal is final, and finds
// out from the catalog why: a login that lacks what Stage grants is Rejected, and staging again fixes it (capability.go).
//
// # What the admin needs
//
// The database "postgres" must admit the admin, or the one that the spec names, or the credential's. Up to PostgreSQL 15:
//
//	CREATE ROLE rotator LOGIN CREATEROLE PASSWORD '...';
//
// CREATEROLE is nearly a superuser there: it may change the password of every role that is none. From PostgreSQL 16 on it
// reaches only what it was given:
//
//	CREATE ROLE rotator LOGIN CREATEROLE PASSWORD '...';
//	GRANT orders_owner TO rotator WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;  -- each allowed owner
//	GRANT orders_app_a TO rotator WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;  -- only where another admin made the login
//
// Useful, and not needed: the log keeps quiet about our statements, and sessions are shown with their addresses, with
//
//	GRANT SET ON PARAMETER log_statement, log_min_error_statement, log_min_duration_statement TO rotator;
//	GRANT SET ON PARAMETER log_min_duration_sample, log_transaction_sample_rate TO rotator;
//	GRANT pg_read_all_stats TO rotator;
package postgres
