// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rekey/rekey/internal/credential"
)

// refusalPatience is how many connect timeouts a server may take to answer a password: it may delay refusals on purpose
// (auth_delay), and rekey provokes one with each proof.
const refusalPatience = 3

// attempt is one login.
type attempt struct {
	username, database, application string
	password                        credential.Sensitive
	// parameters are set at the start of the session.
	parameters map[string]string
	// anyMethod sends the password by any method that the server requests; only for made-up passwords.
	anyMethod bool
}

// neutral sets every option that the driver would otherwise take from the environment and might reject.
const neutral = "host=localhost port=5432 user=nobody database=nobody password=none passfile=/dev/null connect_timeout=5 sslmode=disable sslcertmode=disable sslrootcert='' " +
	"sslnegotiation=postgres target_session_attrs=any min_protocol_version=3.0 max_protocol_version=3.0 channel_binding=disable require_auth=scram-sha-256"

// connect logs in, unless another attempt to reach a silent server is in progress. The error is a *failure and contains no
// text of the server or the driver.
func (e *endpoint) connect(ctx context.Context, a attempt) (*pgx.Conn, error) {
	leave, ok := e.network.Enter(e.address())
	if !ok {
		return nil, &failure{kind: failedSilent, hint: e.hint()}
	}
	answered := false
	defer func() { leave(answered) }()
	conn, err := e.logIn(ctx, a)
	answered = err == nil || diagnose(err, nil).kind != failedTimeout
	return conn, err
}

// hint returns a hint for host names that may have been meant for another namespace.
func (e *endpoint) hint() string {
	host := e.server.Host
	if strings.ContainsAny(host, ".:") || host == "localhost" {
		return ""
	}
	return fmt.Sprintf(". %q has no dot, so it is resolved in rekey's own namespace: write %s.<namespace>", host, host)
}

func (e *endpoint) logIn(ctx context.Context, a attempt) (*pgx.Conn, error) {
	// The environment of this process must have no effect: everything that it could set is overwritten here.
	config, err := pgx.ParseConfig(neutral)
	if err != nil {
		return nil, &failure{kind: failedLocally}
	}
	watch := &authWatch{patience: refusalPatience * e.timeout}
	config.Host, config.Port = e.server.Host, uint16(e.server.Port) //nolint:gosec // newEndpoint checked the range
	config.User, config.Database, config.Password = a.username, a.database, string(a.password.Reveal())
	config.TLSConfig, config.Fallbacks = nil, nil // dial establishes TLS
	config.DialFunc, config.LookupFunc = e.dialer(watch), func(ctx context.Context, host string) ([]string, error) {
		return e.network.LookupHost(ctx, e.rules(), host)
	}
	config.ConnectTimeout = e.timeout + watch.patience
	config.RuntimeParams = map[string]string{"application_name": a.application}
	maps.Copy(config.RuntimeParams, a.parameters)
	config.BuildFrontend, config.Tracer = watch.frontend, e.tracer
	config.ValidateConnect, config.AfterConnect, config.OAuthTokenProvider = nil, nil, nil
	config.KerberosSrvName, config.KerberosSpn = "", ""
	config.SSLNegotiation, config.SSLCertMode = "postgres", "disable"
	config.MinProtocolVersion, config.MaxProtocolVersion = "3.0", "3.0"
	config.MaxProtocolMessageBodyLen = maxMessage
	config.OnPgError = func(_ *pgconn.PgConn, err *pgconn.PgError) bool { return err.SeverityUnlocalized != "FATAL" }
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.RequireAuth, config.ChannelBinding = "scram-sha-256", "disable"
	if e.tls != nil {
		config.ChannelBinding = "require"
		watch.binding = true
	}
	if a.anyMethod {
		config.RequireAuth, config.ChannelBinding = "", "prefer"
		watch.binding = false
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		f := diagnose(err, watch)
		f.hint = e.hint()
		if f.kind == failedRefusal && ctx.Err() != nil {
			f.text = "the time of one call"
		}
		return nil, f
	}
	if err := conn.PgConn().Conn().SetDeadline(time.Time{}); err != nil {
		hangUp(ctx, conn)
		return nil, diagnose(err, watch)
	}
	return conn, nil
}

// hangUp closes a connection gracefully, within a time limit.
func hangUp(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx) // the result does not matter
}

// connectMaintenance logs in as the admin to its maintenance database: the one that the spec names, else "postgres", else
// the first of the others that admits it. Some services have no database "postgres".
func (e *endpoint) connectMaintenance(ctx context.Context, application string, others ...string) (*pgx.Conn, error) {
	if named := e.server.MaintenanceDatabase; named != "" {
		return e.connectAdmin(ctx, named, application)
	}
	conn, err := e.logInAdmin(ctx, defaultMaintenance, application)
	if err == nil {
		return conn, nil
	}
	failed := diagnose(err, nil)
	if failed.noEntry() {
		for _, database := range others {
			if conn, err := e.logInAdmin(ctx, database, application); err == nil {
				return conn, nil
			}
		}
	}
	return nil, e.adminFault(failed, defaultMaintenance)
}

// connectAdmin logs in as the admin to one database.
func (e *endpoint) connectAdmin(ctx context.Context, database, application string) (*pgx.Conn, error) {
	conn, err := e.logInAdmin(ctx, database, application)
	if err != nil {
		return nil, e.adminFault(diagnose(err, nil), database)
	}
	return conn, nil
}

// logInAdmin logs in as the admin, with a session in which nothing blocks forever and names are looked up only in the
// catalog.
func (e *endpoint) logInAdmin(ctx context.Context, database, application string) (*pgx.Conn, error) {
	return e.connect(ctx, attempt{
		username: e.server.Admin.Username, password: e.server.Admin.Password, database: database, application: application,
		parameters: map[string]string{
			"search_path": "pg_catalog", "client_encoding": "UTF8", "standard_conforming_strings": "on", "datestyle": "ISO",
			"lock_timeout": milliseconds(lockTimeout), "statement_timeout": milliseconds(statementTimeout),
			"idle_in_transaction_session_timeout": milliseconds(idleTimeout), "idle_session_timeout": milliseconds(sessionTimeout),
		},
	})
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
