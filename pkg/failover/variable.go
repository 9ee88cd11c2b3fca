package failover

import "fmt"

// Variable is the name of a variable in each watcher's own environment that holds a secret; empty: none. Only the name is
// in policies, logs and errors. What it holds is read anew each time it is used and kept nowhere.
type Variable string

// String names the variable for people, in errors and where a missing file would be named.
func (v Variable) String() string { return "environment variable " + string(v) }

// Read is the variable's value, as the text of a file would be: it may be empty, and is refused if it is larger than limit
// bytes. The environment is the caller's: lookup is os.LookupEnv.
func (v Variable) Read(lookup func(string) (string, bool), limit int) ([]byte, error) {
	value, ok := lookup(string(v))
	switch {
	case !ok:
		return nil, fmt.Errorf("cannot read %s: it is not set", v)
	case len(value) > limit:
		return nil, fmt.Errorf("cannot use %s: it is larger than %d bytes", v, limit)
	}
	return []byte(value), nil
}
