package proctest

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// app is a web app with a maintenance switch. It forgets the switch, and its database a freeze, when it is started
// again open: what was done to it is washed off by a reboot.
type app struct {
	dir, name string

	mu     sync.Mutex // guards what follows
	closed bool
	token  uint64 // highest one seen; an order with a lower one is refused
}

func serveApp(dir, name, address string, open bool) error {
	lock, err := os.OpenFile(filepath.Join(dir, name, "alive"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	a := &app{dir: dir, name: name, closed: !open}
	if open {
		if err := (&Database{Dir: dir, App: name}).Set("frozen", "no"); err != nil {
			return err
		}
	}
	to := map[bool]string{true: "started open", false: "started closed"}[open]
	if err := change(dir, Change{App: name, What: "app", To: to}, func() (bool, error) {
		return true, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
	}); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /maintenance", a.told)
	mux.HandleFunc("PUT /maintenance", func(w http.ResponseWriter, r *http.Request) { a.turn(w, r, true) })
	mux.HandleFunc("DELETE /maintenance", func(w http.ResponseWriter, r *http.Request) { a.turn(w, r, false) })
	mux.HandleFunc("GET /{$}", a.page)
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
	return server.ListenAndServe()
}

// page is what the app is there for.
func (a *app) page(w http.ResponseWriter, _ *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		http.Error(w, "in maintenance", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, a.name)
}

func (a *app) told(w http.ResponseWriter, _ *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		http.Error(w, "not in maintenance", http.StatusNotFound)
	}
}

func (a *app) turn(w http.ResponseWriter, r *http.Request, closed bool) {
	verb, to := "maintenance-off", "off"
	if closed {
		verb, to = "maintenance-on", "on"
	}
	by := handsFrom(func(name string) string { return r.Header.Get("Watchover-" + name) })
	if text, err := os.ReadFile(filepath.Join(a.dir, a.name, "fail-"+verb)); err == nil {
		http.Error(w, "made to fail: "+string(text), http.StatusInternalServerError)
		return
	}
	line := HookLine{Hands: by, At: time.Now(), Phase: verb, PID: os.Getpid()}
	for name := range r.Header {
		if strings.HasPrefix(name, "Watchover-") || name == "Idempotency-Key" {
			line.Env = append(line.Env, name+"="+r.Header.Get(name))
		}
	}
	if err := appendLine(filepath.Join(a.dir, ActsFile), line); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	springTrap(a.dir, "act:"+verb+":before", by.Watcher)
	if err := a.set(closed, Change{App: a.name, What: "maintenance", To: to, By: by}); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	springTrap(a.dir, "act:"+verb+":after", by.Watcher)
}

func (a *app) set(closed bool, c Change) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.By.Token < a.token {
		return fmt.Errorf("token %d is old, %d was seen", c.By.Token, a.token)
	}
	a.token = c.By.Token
	return change(a.dir, c, func() (bool, error) {
		changed := a.closed != closed
		a.closed = closed
		return changed, nil
	})
}
