//go:build servers

package database

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/watchover-ha/watchover/internal/dbtest"
)

// dbtestConn is a client of the app.
type dbtestConn struct{ conn *pgx.Conn }

func connectApp(t *testing.T, p *dbtest.Postgres) *dbtestConn {
	t.Helper()
	config, err := pgx.ParseConfig(p.AppDSN())
	if err != nil {
		t.Fatal(err)
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return &dbtestConn{conn}
}

func (c *dbtestConn) try(t *testing.T, statement string) error {
	_, err := c.conn.Exec(t.Context(), statement)
	return err
}

func (c *dbtestConn) exec(t *testing.T, statement string) {
	t.Helper()
	if err := c.try(t, statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// sorted is a file of settings in which the order of the lines does not count: ALTER SYSTEM writes the last change last.
func sorted(text string) string {
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
