package secret

import (
	"crypto/x509"
	"fmt"
	"os"
	"strings"
)

// ReadToken reads a file that has one word of ASCII, such as a bearer token.
func ReadToken(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(text))
	if token == "" || strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return "", fmt.Errorf("%s: want one word of ASCII", file)
	}
	return token, nil
}

// ReadCA reads the certificates of those whom to trust, PEM.
func ReadCA(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: want PEM blocks CERTIFICATE", file)
	}
	return pool, nil
}
