package probe

import (
	"context"
	"fmt"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// checker asks an app one question, again and again, never twice at the same time: a check that overlaps another one of
// the same probe has a checker of its own.
type checker interface {
	// check asks once within ctx's deadline. A nil error means up; an errUnable says that the question could not be
	// asked on this watcher; any other error means down and becomes the reason.
	check(ctx context.Context) (answer, error)
	// drop lets go of what is kept between two checks, so that the next one begins afresh.
	drop()
}

// answer is what a check learned beside up or down.
type answer struct {
	expires time.Time // of the certificate that the app showed; zero if none was seen
}

// surroundings are what a checker needs of the watcher around it.
type surroundings struct {
	dir      string        // where relative paths begin
	timeout  time.Duration // of one check; bounds what a deadline does not reach
	interval time.Duration // between two checks while all is well
	exec     ExecFunc
	ping     PingFunc
	hurry    func() // asks for the next check early; returns soon
}

// kinds is the table of probe kinds: adding one means a line here and a file beside this one.
var kinds = map[string]func(failover.Probe, surroundings) (checker, error){
	"http": newHTTPCheck,
	"tcp":  newTCPCheck,
	"tls":  newTLSCheck,
	"dns":  newDNSCheck,
	"grpc": newGRPCCheck,
	"icmp": newICMPCheck,
	"exec": newExecCheck,

	"postgres": newDatabaseCheck,
	"mysql":    newDatabaseCheck,
	"redis":    newDatabaseCheck,
}

// newChecker builds the checker of a probe.
func newChecker(spec failover.Probe, around surroundings) (checker, error) {
	build, ok := kinds[spec.Kind]
	if !ok {
		return nil, fmt.Errorf("probe kind %q is unknown; use http, tcp, tls, dns, grpc, icmp, exec, postgres, mysql or redis", spec.Kind)
	}
	return build(spec, around)
}
