package pki

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func put(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadFaults(t *testing.T) {
	own, other := made(t, "w1", "w2"), made(t, "w1")
	good := filesIn(own, "w1")
	text := put(t, filepath.Join(t.TempDir(), "text"), "hello\n")
	huge := put(t, filepath.Join(t.TempDir(), "huge"), strings.Repeat("x", maxFile+1))
	for _, c := range []struct {
		name   string
		change func(f *Files)
		want   []string
	}{
		{"good", func(*Files) {}, nil},
		{"no files", func(f *Files) { f.CA, f.Cert, f.Key = "/nonexistent/a", "/nonexistent/b", "/nonexistent/c" },
			[]string{"ca_file: cannot read file", "cert_file: cannot read file", "key_file: cannot read file"}},
		{"texts", func(f *Files) { f.CA, f.Cert, f.Key = text, text, text }, []string{"ca_file: " + text + " holds no certificate of an authority", "cert_file: " + text + " holds no certificate"}},
		{"a directory", func(f *Files) { f.CA = own }, []string{"ca_file: cannot read file: " + own + " is not a regular file"}},
		{"huge", func(f *Files) { f.Key = huge }, []string{"key_file: cannot read file: " + huge + " is larger than 1024 KiB"}},
		{"another's key", func(f *Files) { f.Key = filesIn(own, "w2").Key }, []string{"key_file: " + filesIn(own, "w2").Key + " is not the key of " + good.Cert}},
		{"another's certificate and key", func(f *Files) { *f = filesIn(own, "w2") }, []string{`cert_file: ` + filesIn(own, "w2").Cert + ` is made out to "w2", not to this watcher, "w1"`}},
		{"another authority", func(f *Files) { f.CA = filepath.Join(other, CAFile) }, []string{`cert_file: ` + good.Cert + ` is issued by "Watchover CA`}},
		{"a watcher as authority", func(f *Files) { f.CA = f.Cert }, []string{"ca_file: " + good.Cert + " holds no certificate of an authority"}},
		{"swapped", func(f *Files) { f.Cert, f.Key = f.Key, f.Cert }, []string{"cert_file: " + good.Key + " holds no certificate"}},
		{"all at once", func(f *Files) { f.CA, f.Cert = filepath.Join(other, CAFile), filesIn(own, "w2").Cert },
			[]string{"cert_file: " + filesIn(own, "w2").Cert + " is made out to", "cert_file: " + filesIn(own, "w2").Cert + " is issued by", "key_file: " + good.Key + " is not the key"}},
	} {
		f := good
		c.change(&f)
		_, err := Load(f, "w1", now)
		faults := Faults(err)
		if len(faults) != len(c.want) || (err == nil) != (len(c.want) == 0) {
			t.Errorf("%s: got %v", c.name, err)
			continue
		}
		for i, fault := range faults {
			if !strings.HasPrefix(fault.Error(), c.want[i]) {
				t.Errorf("%s: got %q, want %q", c.name, fault, c.want[i])
			}
		}
	}
}

func TestAbsent(t *testing.T) {
	_, err := Load(Files{CA: "/nonexistent/a", Cert: t.TempDir(), Key: "/nonexistent/c"}, "w1", now)
	for _, f := range Faults(err) {
		if f.Absent() != (f.Part != PartCert) {
			t.Errorf("%v: absent is %t", f, f.Absent())
		}
	}
}

// TestNoSecretInFaults: what is in the files never gets into a message.
func TestNoSecretInFaults(t *testing.T) {
	dir := made(t, "w1")
	f := filesIn(dir, "w1")
	key, err := os.ReadFile(f.Key)
	if err != nil {
		t.Fatal(err)
	}
	body := strings.Split(string(key), "\n")[1]
	for _, files := range []Files{{CA: f.Key, Cert: f.Key, Key: f.Key}, {CA: f.CA, Cert: f.Key, Key: f.CA}, {CA: f.CA, Cert: f.Cert, Key: put(t, filepath.Join(dir, "broken"), string(key[:90]))}} {
		if _, err := Load(files, "w1", now); err == nil || strings.Contains(err.Error(), body[:16]) {
			t.Errorf("got %v", err)
		}
	}
}

func TestExposedKey(t *testing.T) {
	f := filesIn(made(t, "w1"), "w1")
	for mode, want := range map[os.FileMode]bool{0o600: false, 0o640: false, 0o644: true, 0o604: true} {
		if err := os.Chmod(f.Key, mode); err != nil {
			t.Fatal(err)
		}
		if f.Exposed() != want {
			t.Errorf("%v: exposed is %t", mode, !want)
		}
	}
}

// TestSeveralAuthorities: while an authority is replaced, ca_file holds the old one and the new one.
func TestSeveralAuthorities(t *testing.T) {
	old, next := made(t, "w1"), made(t, "w1")
	var both []byte
	for _, dir := range []string{old, next} {
		text, err := os.ReadFile(filepath.Join(dir, CAFile))
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, text...)
	}
	ca := put(t, filepath.Join(t.TempDir(), "both.pem"), string(both))
	for _, dir := range []string{old, next} {
		f := filesIn(dir, "w1")
		f.CA = ca
		if _, err := Load(f, "w1", now); err != nil {
			t.Error(err)
		}
	}
}

// TestAuthorityThatEndedFirst: that a watcher's authority has ended is no fault of its files, but they are not good.
func TestAuthorityThatEndedFirst(t *testing.T) {
	dir := t.TempDir()
	if _, err := Init(dir, 10, now); err != nil {
		t.Fatal(err)
	}
	if _, err := Issue(dir, "w1", nil, 10, now); err != nil {
		t.Fatal(err)
	}
	at := now.Add(20 * day)
	id, err := Load(filesIn(dir, "w1"), "w1", at)
	if err != nil || id.Overdue(at) == "" || !id.Expires.Equal(now.Add(10*day)) {
		t.Errorf("got %+v, %v", id, err)
	}
}

func TestKeeper(t *testing.T) {
	dir := made(t, "w1")
	f := filesIn(dir, "w1")
	k, err := Open(f, "w1", now)
	if err != nil {
		t.Fatal(err)
	}
	first := k.Current()
	if changed, err := k.Look(now); changed || err != nil {
		t.Errorf("nothing was touched: %t, %v", changed, err)
	}
	later := now.Add(day)
	renewed := t.TempDir()
	for _, file := range []string{CAFile, CAKeyFile} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(renewed, file), string(text))
	}
	if _, err := Issue(renewed, "w1", nil, LeafDays, later); err != nil {
		t.Fatal(err)
	}
	replace := func(from, to string) {
		t.Helper()
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		put(t, to+".new", string(text))
		if err := os.Rename(to+".new", to); err != nil {
			t.Fatal(err)
		}
	}
	replace(filesIn(renewed, "w1").Cert, f.Cert) // its key is still on the way
	if changed, err := k.Look(later); changed || err == nil {
		t.Errorf("a certificate without its key: %t, %v", changed, err)
	}
	if k.Current() != first {
		t.Error("the old identity is no longer in use")
	}
	if changed, err := k.Look(later); changed || err != nil {
		t.Errorf("the same fault was told twice: %t, %v", changed, err)
	}
	if _, err := k.Reload(f, later); err == nil {
		t.Error("asked for, the fault was not told")
	}
	replace(filesIn(renewed, "w1").Key, f.Key)
	if changed, err := k.Look(later); !changed || err != nil {
		t.Errorf("the whole pair: %t, %v", changed, err)
	}
	if got := k.Current().Expires; !got.Equal(first.Expires.Add(day)) {
		t.Errorf("in use is one that ends at %s", got)
	}
	if err := os.Remove(f.CA); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Look(later); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is gone: %v", err)
	}
	if changed, err := k.Reload(filesIn(renewed, "w1"), later); changed || err != nil {
		t.Errorf("the same files elsewhere: %t, %v", changed, err)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(Files{CA: path, Cert: path, Key: path}, "w1", time.Unix(1700000000, 0)); err != nil && len(Faults(err)) == 0 {
			t.Errorf("no fault names a file: %v", err)
		}
	})
}
