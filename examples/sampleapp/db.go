package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

var verbs = []string{"role", "freeze", "unfreeze", "catch-up", "stop-replication", "resume-replication", "promote", "follow"}

// database is "sampleapp db": the program that Watchover's exec database runs, one verb at a time.
func database(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 || !slices.Contains(verbs, args[0]) {
		return fmt.Errorf("%w: db takes one of %s", errUsage, strings.Join(verbs, " "))
	}
	verb := args[0]
	flags := flag.NewFlagSet("db "+verb, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	target := flags.String("url", "http://127.0.0.1:9001", "the app")
	peer := flags.String("peer", "", "follow: the app that is primary now")
	if err := flags.Parse(args[1:]); err != nil {
		return fmt.Errorf("%w: %v", errUsage, err)
	}
	if flags.NArg() > 0 || (verb == "follow") != (*peer != "") {
		return fmt.Errorf("%w: follow, and only follow, needs --peer", errUsage)
	}
	header, deadline, err := fromEnvironment()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	base := strings.TrimSuffix(*target, "/") + "/admin/db"
	if verb == "role" {
		var st status
		if err := call(ctx, http.MethodGet, base, header, &st); err != nil {
			return fmt.Errorf("cannot ask for the role: %w", err)
		}
		fmt.Fprintln(out, st.line())
		return nil
	}
	var answer struct{ Result string }
	if err := call(ctx, http.MethodPost, base+"/"+verb+"?"+url.Values{"peer": {*peer}}.Encode(), header, &answer); err != nil {
		return fmt.Errorf("cannot %s: %w", verb, err)
	}
	fmt.Fprintln(out, answer.Result)
	return nil
}

// fromEnvironment passes on the token and the deadline of the attempt.
func fromEnvironment() (http.Header, time.Time, error) {
	header, deadline := http.Header{}, time.Now().Add(30*time.Second)
	if token := os.Getenv("WATCHOVER_TOKEN"); token != "" {
		header.Set("Watchover-Token", token)
	}
	if text := os.Getenv("WATCHOVER_DEADLINE"); text != "" {
		t, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return nil, deadline, fmt.Errorf("cannot use WATCHOVER_DEADLINE: %w", err)
		}
		header.Set("Watchover-Deadline", text)
		deadline = t
	}
	return header, deadline, nil
}
