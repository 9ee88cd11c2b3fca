package main

import "testing"

func TestForbidden(t *testing.T) {
	tests := []struct {
		from, imported string
		want           bool
	}{
		{"pkg/failover", "time", false},
		{"pkg/failover", "github.com/rs/zerolog", true},
		{"pkg/failover", module + "/pkg/client", true},
		{"pkg/client", module + "/pkg/failover", false},
		{"pkg/client", module + "/internal/control", true},
		{"internal/probe", module + "/pkg/failover", false},
		{"internal/probe", "github.com/miekg/dns", false},
		{"internal/probe", module + "/internal/guard", true},
		{"internal/control/controltest", module + "/internal/control", false},
		{"internal/daemon", module + "/internal/guard", false},
		{"internal/sim", module + "/internal/switchover", false},
		{"internal/probe", module + "/internal/sim", true},
		{"internal/bench", module + "/internal/dbtest", false},
		{"internal/bench", module + "/internal/guard", true},
		{"cmd/watchover", module + "/internal/daemon", false},
	}
	for _, test := range tests {
		faults := check([]pkg{{ImportPath: module + "/" + test.from, Imports: []string{test.imported}}})
		if got := len(faults) > 0; got != test.want {
			t.Errorf("%s imports %s: forbidden = %t, want %t", test.from, test.imported, got, test.want)
		}
	}
}
