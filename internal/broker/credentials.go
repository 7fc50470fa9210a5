package broker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/guildhall-dev/guildhall/internal/secret"
)

// Credentials say by what a service shows NATS who it is, and whom it takes for NATS. All files are read anew for each
// connection.
type Credentials struct {
	NATSCreds     string `split_words:"true" desc:"file with the NATS credentials (a user's JWT and seed, as nsc writes them); none if empty. Like all files of NATS it is read anew for each connection"`
	NATSTokenFile string `split_words:"true" desc:"file with a token for NATS, one word; none if empty"`
	// So spelt for its variable: from NATSCA nobody could tell where NATS ends.
	NatsCAFile   string `split_words:"true" desc:"the CA of NATS, PEM: TLS to NATS. If empty, the URL says whether there is TLS, and the system's CAs are trusted"`
	NATSCertFile string `split_words:"true" desc:"this service's certificate for NATS, PEM, where NATS verifies clients; needs GUILDHALL_NATS_KEY_FILE and GUILDHALL_NATS_CA_FILE"`
	NATSKeyFile  string `split_words:"true" desc:"the key of the certificate, PEM"`
}

func (c *Credentials) check() error {
	if (c.NATSCertFile == "") != (c.NATSKeyFile == "") {
		return errors.New("GUILDHALL_NATS_CERT_FILE and GUILDHALL_NATS_KEY_FILE: want both or none")
	}
	if c.NATSCertFile != "" && c.NatsCAFile == "" {
		return errors.New("GUILDHALL_NATS_CERT_FILE is set, but not GUILDHALL_NATS_CA_FILE, by which NATS is known")
	}
	if c.NATSCreds != "" && c.NATSTokenFile != "" {
		return errors.New("GUILDHALL_NATS_CREDS and GUILDHALL_NATS_TOKEN_FILE are both set: NATS takes one of them")
	}
	return nil
}

// options give what nats.go asks for each time that it connects.
func (c *Credentials) options(secrets *secret.Files) ([]nats.Option, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	var options []nats.Option
	if c.NATSCreds != "" {
		creds, err := secret.Follow(secrets, "nats_credentials", func() (user, error) { return readUser(c.NATSCreds) }, c.NATSCreds)
		if err != nil {
			return nil, fmt.Errorf("GUILDHALL_NATS_CREDS: %w", err)
		}
		login := &login{creds: creds}
		options = append(options, nats.UserJWT(login.token, login.sign))
	}
	if c.NATSTokenFile != "" {
		token, err := secret.Follow(secrets, "nats_token", func() (string, error) { return secret.ReadToken(c.NATSTokenFile) }, c.NATSTokenFile)
		if err != nil {
			return nil, fmt.Errorf("GUILDHALL_NATS_TOKEN_FILE: %w", err)
		}
		options = append(options, nats.TokenHandler(token.Read))
	}
	if c.NatsCAFile != "" {
		option, err := c.tls(secrets)
		if err != nil {
			return nil, err
		}
		options = append(options, option)
	}
	return options, nil
}

func (c *Credentials) tls(secrets *secret.Files) (nats.Option, error) {
	trusted, err := secret.Follow(secrets, "nats_ca", func() (*x509.CertPool, error) { return secret.ReadCA(c.NatsCAFile) }, c.NatsCAFile)
	if err != nil {
		return nil, fmt.Errorf("GUILDHALL_NATS_CA_FILE: %w", err)
	}
	trust := func() (*x509.CertPool, error) { return trusted.Read(), nil }
	if c.NATSCertFile == "" {
		return nats.ClientTLSConfig(nil, trust), nil
	}
	own, err := secret.Follow(secrets, "nats_certificate", func() (tls.Certificate, error) {
		return tls.LoadX509KeyPair(c.NATSCertFile, c.NATSKeyFile)
	}, c.NATSCertFile, c.NATSKeyFile)
	if err != nil {
		return nil, fmt.Errorf("GUILDHALL_NATS_CERT_FILE, GUILDHALL_NATS_KEY_FILE: %w", err)
	}
	return nats.ClientTLSConfig(func() (tls.Certificate, error) { return own.Read(), nil }, trust), nil
}

// user is a user of NATS: the two halves of one credentials file.
type user struct {
	token string
	sign  nats.SignatureHandler
}

// login shows NATS a user. nats.go asks for the token and then, with the server's nonce, for a signature: both must be of
// one version of the file.
type login struct {
	creds *secret.Value[user]

	mu      sync.Mutex
	current user // guarded by mu; whose token was shown last
}

func (l *login) token() (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current = l.creds.Read()
	return l.current.token, nil
}

func (l *login) sign(nonce []byte) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current.sign(nonce)
}

// readUser reads a credentials file, once for both halves.
func readUser(file string) (user, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return user{}, err
	}
	var of nats.Options
	if err := nats.UserCredentialBytes(text)(&of); err != nil {
		return user{}, fmt.Errorf("%s: %w", file, err)
	}
	token, err := of.UserJWT()
	if err == nil {
		_, err = of.SignatureCB([]byte("whether it can sign"))
	}
	if err != nil || token == "" {
		return user{}, fmt.Errorf("%s: want a NATS credentials file with a user's JWT and seed", file) // what is wrong could tell what is there
	}
	return user{token: token, sign: of.SignatureCB}, nil
}
