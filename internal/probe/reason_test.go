package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

func TestLocalFaultsAreOurs(t *testing.T) {
	for _, err := range []error{syscall.EMFILE, syscall.EADDRNOTAVAIL, errUnable{errors.New("x")}} {
		wrapped := &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", err)}
		if judge(wrapped) != unable {
			t.Errorf("%v counts against the app", wrapped)
		}
	}
	for _, err := range []error{syscall.ECONNREFUSED, syscall.EHOSTUNREACH, context.DeadlineExceeded} {
		if judge(fmt.Errorf("dial: %w", err)) != failure {
			t.Errorf("%v is no failure", err)
		}
	}
}

func TestReasons(t *testing.T) {
	read := func(err error) error {
		return &net.OpError{Op: "read", Net: "tcp", Addr: &net.TCPAddr{Port: 1}, Err: err}
	}
	lookup := func(err *net.DNSError) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	tests := []struct {
		name string
		err  error
		want string
		o    outcome
	}{
		{"refused", read(os.NewSyscallError("connect", syscall.ECONNREFUSED)), "connection refused", failure},
		{"reset", read(os.NewSyscallError("read", syscall.ECONNRESET)), "connection reset", failure},
		{"broken pipe", read(syscall.EPIPE), "connection reset", failure},
		{"no route", read(syscall.EHOSTUNREACH), "no route to host", failure},
		{"no network", read(syscall.ENETUNREACH), "network unreachable", failure},
		{"deadline", read(os.ErrDeadlineExceeded), "no answer within 1s", failure},
		{"context", fmt.Errorf("x: %w", context.DeadlineExceeded), "no answer within 1s", failure},
		{"no such name", lookup(&net.DNSError{Name: "db.test", IsNotFound: true}), "host name db.test does not exist", failure},
		{"dead resolver", lookup(&net.DNSError{Name: "db.test", IsTimeout: true}), "cannot resolve db.test", unable},
		{"without ports", read(errors.New("odd\nthing")), "odd thing", failure},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := reasonOf(tt.err, time.Second); got != tt.want || judge(tt.err) != tt.o {
				t.Errorf("%q (%d), want %q (%d)", got, judge(tt.err), tt.want, tt.o)
			}
		})
	}
}

func TestWhatIsNewsOfAnOpinion(t *testing.T) {
	down, refused, up := opinion{verdict: failover.VerdictDown}, opinion{failover.VerdictDown, true}, opinion{verdict: failover.VerdictUp}
	for _, tc := range []struct {
		now, told opinion
		want      bool
	}{
		{down, opinion{}, true}, {down, down, false}, {up, refused, true},
		{refused, down, true},
		{down, refused, false}, // else two servers behind one address could fill the log
	} {
		if got := tc.now.news(tc.told); got != tc.want {
			t.Errorf("%v after %v: %v", tc.now, tc.told, got)
		}
	}
}
