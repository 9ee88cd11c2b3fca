package probe

import (
	"strings"
	"testing"

	"golang.org/x/net/http/httpguts"
)

// FuzzParseHeaders: what is taken from a header file can be sent, and an error never repeats what may be a credential.
func FuzzParseHeaders(f *testing.F) {
	for _, text := range []string{"", "# comment\n\nAuthorization: Bearer abcdefgh\n", "no colon", "Host: x", "A: b\r\nC: d", "X-\xff: y", "Content-Length: 3"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		header, err := parseHeaders(data)
		if err != nil {
			for line := range strings.Lines(string(data)) {
				if _, value, ok := strings.Cut(line, ":"); ok {
					if value = strings.TrimSpace(value); len(value) >= 24 && strings.Contains(err.Error(), value) {
						t.Errorf("error %q repeats %q", err, value)
					}
				}
			}
			return
		}
		for name, values := range header {
			for _, value := range values {
				if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
					t.Errorf("%q: %q cannot be sent", name, value)
				}
			}
		}
	})
}
