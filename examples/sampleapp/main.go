// Sampleapp is a small shop with a database of its own, to see Watchover move something real. One program is the web
// application, the replicated store below it, and the command line that Watchover's exec database calls.
//
//	sampleapp serve --name main    --listen 127.0.0.1:9001 --data main.d
//	sampleapp serve --name standby --listen 127.0.0.1:9002 --data standby.d --peer http://127.0.0.1:9001
//	sampleapp db role --url http://127.0.0.1:9001
//
// It shows what an application should bring along: a maintenance mode that survives a reboot, a health page that tells
// whether the process serves (also in maintenance), writes that are refused before a freeze is confirmed, and fencing
// tokens: whoever comes with a lower token than one seen before is refused, however late its packet arrives. It has no
// logins: bind it to loopback, or put something before /admin and /replication that asks who is there.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

const usage = `usage:
  sampleapp serve --name NAME --listen HOST:PORT --data DIR [--peer URL] [--role primary|replica]
  sampleapp db VERB --url URL      VERB: role freeze unfreeze catch-up stop-replication resume-replication promote
  sampleapp db follow --url URL --peer URL     make the app at --url a replica of the one at --peer
db passes on WATCHOVER_TOKEN and WATCHOVER_DEADLINE from its environment.
`

// errUsage ends the program with code 2.
var errUsage = errors.New("wrong usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		fmt.Fprintf(os.Stderr, "sampleapp: %v\n%s", err, usage)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "sampleapp:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, errs io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("%w: no verb", errUsage)
	}
	switch args[0] {
	case "serve":
		return serve(ctx, args[1:], errs)
	case "db":
		return database(ctx, args[1:], out)
	}
	return fmt.Errorf("%w: unknown verb %q", errUsage, args[0])
}

// serve runs the application until the context ends.
func serve(ctx context.Context, args []string, errs io.Writer) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	flags.SetOutput(errs)
	name := flags.String("name", "main", "shown on the page")
	listen := flags.String("listen", "127.0.0.1:9001", "host:port")
	data := flags.String("data", "", "directory of the data; made if missing")
	peer := flags.String("peer", "", "URL of the app to replicate from; remembered")
	role := flags.String("role", "", "primary or replica, at the first start only (default: replica if --peer is given)")
	if err := flags.Parse(args); err != nil {
		return errors.Join(errUsage, err)
	}
	if *data == "" || flags.NArg() > 0 || !slices.Contains([]string{"", rolePrimary, roleReplica}, *role) {
		return fmt.Errorf("%w: --data is required, --role is primary or replica", errUsage)
	}
	if *role == "" {
		*role = rolePrimary
		if *peer != "" {
			*role = roleReplica
		}
	}
	st, err := openStore(*data, *role, strings.TrimSuffix(*peer, "/"))
	if err != nil {
		return err
	}
	defer st.close()
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	logger := log.New(errs, *name+": ", log.Ltime|log.Lmicroseconds)
	logger.Printf("serving on http://%s as %s", listener.Addr(), st.status().Role)
	return serveUntil(ctx, listener, newApp(*name, st, logger))
}

// serveUntil serves and replicates until the context ends, then lets requests end for a moment.
func serveUntil(ctx context.Context, listener net.Listener, a *app) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server := &http.Server{
		Handler: a.routes(), MaxHeaderBytes: 16 << 10, ErrorLog: a.log,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 2 * time.Minute, IdleTimeout: time.Minute,
		BaseContext: func(net.Listener) context.Context { return ctx }, // so that long polls end with the server
	}
	replicated, served := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(replicated)
		a.store.replicate(ctx, a.log)
	}()
	go func() { served <- server.Serve(listener) }()
	var err error
	select {
	case err = <-served:
	case <-ctx.Done():
		stopping, stopped := context.WithTimeout(context.Background(), 2*time.Second)
		defer stopped()
		if server.Shutdown(stopping) != nil {
			server.Close()
		}
		<-served
	}
	cancel()
	<-replicated
	return err
}
