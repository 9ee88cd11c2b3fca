package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// usage is what a process has used so far.
type usage struct {
	cpu      time.Duration
	resident int // KiB
}

func runIdle(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("idle", flag.ContinueOnError)
	span := flags.Duration("for", 10*time.Minute, "how long")
	if err := flags.Parse(args); err != nil {
		return err
	}
	bin, err := os.MkdirTemp("", "watchover-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(bin)
	if err := build(ctx, bin+string(filepath.Separator)); err != nil {
		return err
	}
	l := &lab{dir: filepath.Join(bin, "lab")}
	if err := os.Mkdir(l.dir, 0o700); err != nil {
		return err
	}
	defer l.stop()
	if err := l.start(bin); err != nil {
		return err
	}
	bare, err := startBare(bin)
	defer func() {
		for _, p := range bare {
			_ = p.Process.Kill()
			_ = p.Wait()
		}
	}()
	if err != nil {
		return err
	}
	if err := l.awaitArmed(ctx); err != nil {
		return err
	}
	if !pause(ctx, 20*time.Second) { // start-up costs are no idle costs
		return ctx.Err()
	}
	processes := append(append([]*process(nil), l.watchers...), bare...)
	before, index, err := l.reading(ctx, processes)
	if err != nil {
		return err
	}
	if !pause(ctx, *span) {
		return ctx.Err()
	}
	after, indexAfter, err := l.reading(ctx, processes)
	if err != nil {
		return err
	}
	fmt.Printf("idle for %s; commit index %d before, %d after\n", *span, index, indexAfter)
	for i, p := range processes {
		cpu := (after[i].cpu - before[i].cpu).Seconds() / span.Minutes()
		fmt.Printf("%-10s %-9s %.2f s of processor a minute, %.1f MiB resident\n", name(i), role(l, p, i), cpu, float64(after[i].resident)/1024)
	}
	return nil
}

func name(i int) string {
	if i < 3 {
		return fmt.Sprintf("watcher %d", i+1)
	}
	return fmt.Sprintf("bare %d", i-2)
}

func role(l *lab, p *process, i int) string {
	if i < 3 {
		s, err := l.sockets[i].Status(context.Background())
		if err == nil && s.Cluster.Leader != nil && *s.Cluster.Leader == fmt.Sprintf("w%d", i+1) {
			return "leader"
		}
		return "follower"
	}
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	if strings.Contains(p.log.text.String(), "leader") {
		return "leader"
	}
	return "follower"
}

func (l *lab) reading(ctx context.Context, processes []*process) ([]usage, uint64, error) {
	var list []usage
	for _, p := range processes {
		u, err := read(p.Process.Pid)
		if err != nil {
			return nil, 0, err
		}
		list = append(list, u)
	}
	s, err := l.sockets[0].Status(ctx)
	if err != nil {
		return nil, 0, err
	}
	return list, s.Cluster.CommitIndex, nil
}

// read takes processor time (utime and stime, in ticks of 10 ms) and resident memory from /proc (proc(5)).
func read(pid int) (usage, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, err
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+2:]))
	var ticks int
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			return usage{}, err
		}
		ticks += n
	}
	pages, err := strconv.Atoi(fields[21])
	if err != nil {
		return usage{}, err
	}
	return usage{cpu: time.Duration(ticks) * 10 * time.Millisecond, resident: pages * os.Getpagesize() / 1024}, nil
}

func startBare(bin string) ([]*process, error) {
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	var list []*process
	for i := range 3 {
		p, err := spawn(filepath.Join(bin, "bench"), "bareraft", strconv.Itoa(i), filepath.Join(bin, fmt.Sprintf("bare%d", i)),
			address(ports[0]), address(ports[1]), address(ports[2]))
		if err != nil {
			return list, err
		}
		list = append(list, p)
	}
	return list, nil
}

// runBareRaft is the baseline: hashicorp/raft with its default timing on a bolt store, and nothing else.
func runBareRaft(ctx context.Context, args []string) error {
	if len(args) != 5 {
		return fmt.Errorf("bareraft takes index, directory and three addresses")
	}
	own, err := strconv.Atoi(args[0])
	if err != nil || own < 0 || own > 2 {
		return fmt.Errorf("bareraft: %q is no index", args[0])
	}
	dir, peers := args[1], args[2:]
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	quiet := hclog.NewNullLogger()
	store, err := raftboltdb.NewBoltStore(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	defer store.Close()
	advertised, err := net.ResolveTCPAddr("tcp", peers[own])
	if err != nil {
		return err
	}
	transport, err := raft.NewTCPTransportWithLogger(peers[own], advertised, 3, 10*time.Second, quiet)
	if err != nil {
		return err
	}
	defer transport.Close()
	config := raft.DefaultConfig()
	config.LocalID, config.Logger = raft.ServerID(peers[own]), quiet
	var servers raft.Configuration
	for _, peer := range peers {
		servers.Servers = append(servers.Servers, raft.Server{ID: raft.ServerID(peer), Address: raft.ServerAddress(peer)})
	}
	node, err := raft.NewRaft(config, &raft.MockFSM{}, store, store, raft.NewDiscardSnapshotStore(), transport)
	if err != nil {
		return err
	}
	if err := node.BootstrapCluster(servers).Error(); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return node.Shutdown().Error()
		case leads := <-node.LeaderCh():
			if leads {
				fmt.Println("leader")
			}
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
