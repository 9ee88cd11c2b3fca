package main

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if code, stdout, stderr := run(t, "", "", "completion", shell); code != exitDone || !strings.Contains(stdout, "__complete") || stderr != "" {
			t.Errorf("%s: exit %d, %d bytes, %q", shell, code, len(stdout), stderr)
		}
	}
	socket := serving(t, up())
	for _, test := range []struct{ args, want string }{
		{"explain ", "shop\tmain is active, steady\n:4\n"},
		{"events --group ", "shop\tmain is active, steady\n:4\n"},
		{"explain shop ", ":4\n"},
		{"switchover shop --to ", "main\tactive, up\nstandby\tstandby, up\n:4\n"},
		{"status -o ", "table\njson\n:4\n"},
		{"apply ", ":0\n"},
		{"completion ", "bash\nzsh\nfish\n:4\n"},
	} {
		args := append([]string{"__complete"}, strings.Split(test.args, " ")...)
		if code, stdout, _ := run(t, socket, "", args...); code != exitDone || stdout != test.want {
			t.Errorf("%q: exit %d, %q, want %q", test.args, code, stdout, test.want)
		}
	}
}

// A daemon that does not answer must not hang whoever presses Tab.
func TestCompletionWithoutADaemon(t *testing.T) {
	mute := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", mute)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for _, socket := range []string{"/nonexistent/socket", mute} {
		began := time.Now()
		code, stdout, _ := run(t, socket, "", "__complete", "explain", "")
		if code != exitDone || stdout != ":4\n" || time.Since(began) > 10*completionPatience {
			t.Errorf("%s: exit %d, %q after %s", socket, code, stdout, time.Since(began))
		}
	}
}

func TestSchema(t *testing.T) {
	if code, stdout, _ := run(t, "", "", "config", "schema"); code != exitDone || !strings.Contains(stdout, `"$schema"`) {
		t.Errorf("exit %d, %q", code, stdout)
	}
}
