// Command bench measures whole watchers as processes, beside a baseline that runs at the same time where there is one.
//
//	go run ./internal/bench switch [-runs 20] [-fault kill|freeze] [-database]
//	go run ./internal/bench idle [-for 10m]
//	go run ./internal/bench database [-kind postgres|mysql|redis] [-runs 20] [-fault none|kill] [-by watchover|hand]
//
// switch: three watchers and two sample apps on loopback; the main app is killed or frozen; how long until all three
// watchers answer the standby, and how much of that came after the verdict that made the quorum. idle: processor time
// and memory of three watchers that have nothing to do, beside three bare hashicorp/raft processes of the same timing.
// database: a real pair (of internal/dbtest) and a client that writes every 5 ms to where the record points; a planned
// switchover, or main killed with its database. Its baseline is the same move by hand, without watchers and without a record.
// Figures are for comparing, not for passing: the machine's noise is in them.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "bench: say switch, idle or database")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	verbs := map[string]func(context.Context, []string) error{"switch": runSwitch, "idle": runIdle, "database": runDatabase, "bareraft": runBareRaft}
	verb := verbs[os.Args[1]]
	if verb == nil {
		fmt.Fprintf(os.Stderr, "bench: there is no %q; say switch, idle or database\n", os.Args[1])
		os.Exit(2)
	}
	if err := verb(ctx, os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}
