package config

import (
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

func TestParseSize(t *testing.T) {
	for _, tt := range []struct {
		text string
		want int64
		err  string
	}{
		{"0", 0, ""},
		{"4096", 4096, ""},
		{"1B", 1, ""},
		{"16KiB", 16 << 10, ""},
		{"16MiB", 16 << 20, ""},
		{"2 GiB", 2 << 30, ""},
		{"1TiB", 1 << 40, ""},
		{"1KB", 1000, ""},
		{"1kB", 1000, ""},
		{"3MB", 3e6, ""},
		{"8388607TiB", 8388607 << 40, ""},
		{"8388608TiB", 0, "8388608TiB is more than can be counted"},
		{"-1MiB", 0, "-1MiB is negative"},
		{"-1.5MiB", 0, "-1.5MiB is negative"},
		{"1.5MiB", 0, `want a size like 16MiB, got "1.5MiB"`},
		{"16M", 0, `want a size like 16MiB, got "16M"`},
		{"MiB", 0, `want a size like 16MiB, got "MiB"`},
		{"", 0, `want a size like 16MiB, got ""`},
		{"16mib", 0, `want a size like 16MiB, got "16mib"`},
	} {
		got, err := parseSize(tt.text)
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
			t.Errorf("%q: got %d, %v; want %d, %q", tt.text, got, err, tt.want, tt.err)
		}
	}
}

// scalar makes a value of a piece of YAML.
func scalar(t *testing.T, text string) (value, *reader) {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	r := newReader("f", "", Options{})
	return value{r: r, node: doc.Content[0], path: "k", line: 1}, r
}

func message(r *reader) string {
	if len(r.faults) == 0 {
		return ""
	}
	return r.faults[0].Message
}

func TestDuration(t *testing.T) {
	for _, tt := range []struct {
		text string
		want time.Duration
		err  string
	}{
		{"1500ms", 1500 * time.Millisecond, ""},
		{"5s", 5 * time.Second, ""},
		{"10m", 10 * time.Minute, ""},
		{"1h", time.Hour, ""},
		{"0s", 0, ""},
		{`"5s"`, 5 * time.Second, ""},
		{"5", 0, "want a duration with its unit, got 5: write 5s or 5ms"},
		{"0", 0, "want a duration with its unit, got 0: write 0s or 0ms"},
		{"0.5", 0, "want a duration with its unit, got 0.5: write 0.5s or 0.5ms"},
		{"-5s", 0, "-5s is negative"},
		{"61m", 0, "61m is out of range, want 0s to 1h"},
		{"1d", 0, `want a duration like 1500ms, 5s, 10m or 2h, got "1d"`},
		{"5 s", 0, `want a duration like 1500ms, 5s, 10m or 2h, got "5 s"`},
		{"true", 0, "want a duration like 1500ms, 5s, 10m or 2h, got the truth value true"},
		{"[5s]", 0, "want a duration like 5s, got a list"},
	} {
		v, r := scalar(t, tt.text)
		got, ok := v.duration(0, time.Hour)
		if got != tt.want || ok != (tt.err == "") || message(r) != tt.err {
			t.Errorf("%s: got %s, %q; want %s, %q", tt.text, got, message(r), tt.want, tt.err)
		}
	}
}

func TestHostPort(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.1:80":         "",
		`"[2001:db8::1]:80"`:   "",
		"db.example.net:5432":  "",
		"192.0.2.1":            `want host:port, got "192.0.2.1"; the port is missing`,
		"2001:db8::1":          `want host:port, got "2001:db8::1"; write "[2001:db8::1]:PORT"`,
		"192.0.2.1:0":          `want a port of 1 to 65535, got "0"`,
		"192.0.2.1:65536":      `want a port of 1 to 65535, got "65536"`,
		"192.0.2.1:http":       `want a port of 1 to 65535, got "http"`,
		`":80"`:                "the host before the port is missing",
		"0.0.0.0:80":           "0.0.0.0 cannot be connected to",
		"999.0.2.1:80":         `"999.0.2.1" is neither an IP address nor a host name`,
		`"a b:80"`:             `"a b" is not a DNS name: " " may not be in it`,
		"http://192.0.2.1:80/": `want host:port, got "http://192.0.2.1:80/"`,
		"-a.example:80":        `label "-a" begins or ends with a hyphen`,
		"80":                   "want text, got the number 80: put it in quotes",
		`""`:                   "is empty",
	} {
		v, r := scalar(t, text)
		_, ok := v.dialable()
		if ok != (want == "") || message(r) != want {
			t.Errorf("%s: got %q, want %q", text, message(r), want)
		}
	}
}

func TestCheckWord(t *testing.T) {
	for name, ok := range map[string]bool{
		"w1": true, "a": true, "main-2": true, strings.Repeat("a", 63): true,
		"": false, "-a": false, "a-": false, "A": false, "a.b": false, "a_b": false, "a b": false, "aéb": false,
		strings.Repeat("a", 64): false,
	} {
		if err := checkWord(name); (err == nil) != ok {
			t.Errorf("%q: got %v", name, err)
		}
	}
}

func TestCheckDNSName(t *testing.T) {
	long := strings.Repeat("a.", 126) + "a" // 253
	for name, ok := range map[string]bool{
		"a": true, "ha.example.com": true, "0.z9": true, "_sip._tcp.example": true, long: true, "xn--bcher-kva.example": true,
		"": false, ".": false, "a..b": false, "a.": false, "a.-b": false, "bücher.example": false, "*.a": false, "a b": false,
		long + "a": false, strings.Repeat("a", 64) + ".b": false,
	} {
		if err := checkDNSName(name); (err == nil) != ok {
			t.Errorf("%q: got %v", name, err)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"interval", "retry_interval", "timeout", "fall", "rise", "ttl", "on", "off"}
	for _, tt := range []struct{ text, want string }{
		{"intervall", "interval"}, {"retry-interval", "retry_interval"}, {"Timeout", "timeout"}, {"timoeut", "timeout"},
		{"fal", "fall"}, {"tll", "ttl"}, {"no", ""}, {"x", ""}, {"banana", ""}, {"", ""}, {"rice", "rise"},
	} {
		if got, _ := nearest(tt.text, known); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.text, got, tt.want)
		}
	}
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		time.Hour: "1h", 5 * time.Minute: "5m", 30 * time.Second: "30s", 90 * time.Minute: "1h30m", 10 * time.Hour: "10h",
		100 * time.Millisecond: "100ms", 0: "0s", 10 * time.Second: "10s", 70 * time.Second: "1m10s",
	} {
		if got := short(d); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
