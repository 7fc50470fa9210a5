package director

import (
	"crypto/tls"
	"fmt"

	"github.com/guildhall-dev/guildhall/internal/secret"
)

// tlsFiles are the files of one side of TLS; a client without a certificate has only the other side's CA.
type tlsFiles struct {
	cert, key, ca string
	serverName    string
}

// follow has the files read anew when they are replaced.
func (f tlsFiles) follow(secrets *secret.Files) (*secret.Value[*tls.Config], error) {
	names := []string{f.ca}
	if f.cert != "" {
		names = append(names, f.cert, f.key)
	}
	return secret.Follow(secrets, "agones_certificates", f.read, names...)
}

func (f tlsFiles) read() (*tls.Config, error) {
	trusted, err := secret.ReadCA(f.ca)
	if err != nil {
		return nil, fmt.Errorf("the CA: %w", err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: trusted, ServerName: f.serverName}
	if f.cert == "" {
		return config, nil
	}
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s and key %s: %w", f.cert, f.key, err)
	}
	// Shown whichever CAs the server names: one that does not know ours shall say so, rather than that there was none.
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	return config, nil
}
