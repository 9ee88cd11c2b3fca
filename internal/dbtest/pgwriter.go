package dbtest

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// pgSession is an app's connection to a PostgreSQL.
type pgSession struct{ conn *pgx.Conn }

// PostgresSession connects a Writer to a server by an app's DSN.
func PostgresSession(ctx context.Context, dsn string) (Session, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	return pgSession{conn}, nil
}

func (s pgSession) Write(ctx context.Context, id int64) error {
	_, err := s.conn.Exec(ctx, fmt.Sprintf("INSERT INTO orders VALUES (%d)", id))
	return err
}

func (s pgSession) Alive() bool { return !s.conn.IsClosed() }

func (s pgSession) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), writePatience)
	defer cancel()
	_ = s.conn.Close(ctx)
}

// Stored are the numbers of the table orders.
func (p *Postgres) Stored(t TB) map[int64]bool {
	t.Helper()
	conn, err := p.connect("shop")
	if err != nil {
		t.Fatalf("cannot connect: %v", err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	rows, err := conn.Query(context.Background(), "SELECT id FROM orders")
	if err != nil {
		t.Fatalf("cannot read orders: %v", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		t.Fatalf("cannot read orders: %v", err)
	}
	stored := make(map[int64]bool, len(ids))
	for _, id := range ids {
		stored[id] = true
	}
	return stored
}
