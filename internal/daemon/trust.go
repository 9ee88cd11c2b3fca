package daemon

import (
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/internal/cluster"
	"github.com/watchover-ha/watchover/internal/config"
	"github.com/watchover-ha/watchover/internal/control"
	"github.com/watchover-ha/watchover/internal/pki"
)

const (
	// expirySoon is from when on the end of the watcher's certificate is logged, every expiryEvery.
	expirySoon  = 30 * 24 * time.Hour
	expiryEvery = 24 * time.Hour
)

// trust keeps what this watcher proves itself with to the others. A nil one is of a watcher that speaks in plain.
type trust struct {
	name   string
	log    zerolog.Logger
	keeper *pki.Keeper
	warned time.Time // when the certificate's end was last logged; of lookAtFiles alone
}

// openTrust loads the files of cluster.tls. A certificate that has ended does not keep the watcher from starting: its
// name server has answers all the same, and a new certificate is taken up when it comes.
func openTrust(f *config.File, log zerolog.Logger) (*trust, error) {
	if f.Cluster.TLS == nil {
		return nil, nil
	}
	keeper, err := pki.Open(filesOf(f.Cluster.TLS), f.Watcher.Name, time.Now())
	if err != nil {
		return nil, fmt.Errorf("cannot use cluster.tls: %w", oneLine(err))
	}
	return &trust{name: f.Watcher.Name, log: log, keeper: keeper}, nil
}

func filesOf(t *config.TLS) pki.Files {
	return pki.Files{CA: t.CAFile, Cert: t.CertFile, Key: t.KeyFile}
}

// credentials are what the cluster asks for with each connection.
func (t *trust) credentials() func() cluster.Credentials {
	if t == nil {
		return nil
	}
	return func() cluster.Credentials {
		id := t.keeper.Current()
		return cluster.Credentials{Certificate: id.Certificate, Authorities: id.Authorities}
	}
}

// lookAtTrust takes up certificates that have changed, and says once a day when the watcher's own is about to end. The
// desk calls it, beside its loop.
func (d *Daemon) lookAtTrust(now time.Time) {
	if d.trust == nil {
		return
	}
	d.tookTrust(d.trust.keeper.Look(now))
	d.trust.remind(now)
}

// reloadTrust reads the certificates again whether they changed or not. Turning TLS on or off changes what every
// connection is, so that takes a restart.
func (d *Daemon) reloadTrust(f *config.File) {
	switch t := f.Cluster.TLS; {
	case (t == nil) != (d.trust == nil):
		d.log.Warn().Msg("cluster.tls was added or taken away: that counts from the next start of this watcher")
	case t != nil:
		d.tookTrust(d.trust.keeper.Reload(filesOf(t), time.Now()))
	}
}

func (d *Daemon) tookTrust(changed bool, err error) {
	switch {
	case err != nil:
		d.trust.log.Error().Err(oneLine(err)).Msg("cannot use the new certificates, the old ones stay in use")
	case changed:
		d.trust.log.Info().Time("expires", d.trust.keeper.Current().Expires).Msg("new certificates are in use")
		d.node.Retrust()
		d.desk.wake()
	}
}

// remind logs that the certificate ends soon, or has.
func (t *trust) remind(now time.Time) {
	id := t.keeper.Current()
	overdue, left := id.Overdue(now), id.Expires.Sub(now)
	if overdue == "" && left >= expirySoon || now.Sub(t.warned) < expiryEvery {
		return
	}
	t.warned = now
	line := t.log.Warn()
	text := "this watcher's certificate ends soon, the others will then refuse new connections; `watchover pki issue` makes a new one"
	if overdue != "" {
		line = t.log.Error().Str("certificate", overdue)
		text = "this watcher's certificate is not good now, the others refuse new connections; `watchover pki issue` makes a new one"
	}
	line.Time("expires", id.Expires).Int("days_left", int(left/(24*time.Hour))).Msg(text)
}

// expires is when the certificate ends; nil in plain.
func (t *trust) expires() *time.Time {
	if t == nil {
		return nil
	}
	at := t.keeper.Current().Expires.UTC()
	return &at
}

// certificate is the watcher's own as its metrics show it.
func (t *trust) certificate() []control.Certificate {
	if t == nil {
		return nil
	}
	return []control.Certificate{{Name: t.name, Expires: t.keeper.Current().Expires}}
}

// checkTLS is the configuration's question about the files of cluster.tls.
func checkTLS(t config.TLS, name string) (remarks []config.Remark) {
	now := time.Now()
	files := filesOf(&t)
	id, err := pki.Load(files, name, now)
	for _, f := range pki.Faults(err) {
		remarks = append(remarks, config.Remark{Key: string(f.Part), Text: f.Text, Odd: f.Absent()})
	}
	if err == nil && id.Overdue(now) != "" {
		remarks = append(remarks, config.Remark{Key: string(pki.PartCert), Text: files.Cert + " " + id.Overdue(now) + "; the other watchers refuse it", Odd: true})
	}
	if files.Exposed() {
		remarks = append(remarks, config.Remark{Key: string(pki.PartKey), Text: files.Key + " can be read by every user of this machine; chmod 600 it", Odd: true})
	}
	return remarks
}

// oneLine puts joined errors side by side.
func oneLine(err error) error {
	faults := pki.Faults(err)
	if len(faults) == 0 {
		return err
	}
	text := faults[0].Error()
	for _, f := range faults[1:] {
		text += "; " + f.Error()
	}
	return errors.New(text)
}
