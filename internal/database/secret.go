package database

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"github.com/watchover-ha/watchover/internal/localfile"
	"github.com/watchover-ha/watchover/pkg/failover"
)

const (
	maxSecret = 4 << 10 // bytes of a password, in a file or a variable
	maxCA     = 1 << 20 // bytes of a file of authorities
)

// password reads a password file, or the variable that holds a password instead; what ends its only line is not part of it.
func password(ctx context.Context, path string, variable failover.Variable) (string, error) {
	if variable != "" {
		return fromEnvironment(variable)
	}
	if path == "" {
		return "", nil
	}
	text, err := readFile(ctx, path, maxSecret)
	if err != nil {
		return "", err
	}
	secret := onlyLine(text)
	if secret == "" {
		return "", fmt.Errorf("cannot use %s: it is empty: %w", path, ErrFile)
	}
	return secret, nil
}

func onlyLine(text []byte) string {
	return strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
}

func fromEnvironment(variable failover.Variable) (string, error) {
	text, err := variable.Read(os.LookupEnv, maxSecret)
	if err != nil {
		return "", variableFault{err}
	}
	secret := onlyLine(text)
	if secret == "" {
		return "", variableFault{fmt.Errorf("cannot use %s: it is empty", variable)}
	}
	return secret, nil
}

// variableFault counts as ErrFile without calling a variable a file.
type variableFault struct{ error }

func (variableFault) Is(target error) bool { return target == ErrFile }

// authorities reads a file of certificates; nil: those of the system.
func authorities(ctx context.Context, path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	text, err := readFile(ctx, path, maxCA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("cannot use %s: no certificate in PEM form in it: %w", path, ErrFile)
	}
	return pool, nil
}

func readFile(ctx context.Context, path string, limit int64) ([]byte, error) {
	text, err := localfile.Read(ctx, path, limit)
	if err != nil {
		return nil, fmt.Errorf("cannot read %w: %w", ErrFile, err)
	}
	return text, nil
}
