// Package certtest makes certificates for tests, and lays files out as the kubelet lays out those of a Secret. It is
// used by tests alone.
package certtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// lifetime is how long certificates are good, from an hour ago on.
const lifetime = 24 * time.Hour

// Authority is a certificate authority.
type Authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// New makes an authority.
func New(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t, key: newKey(t)}
	a.cert = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "an authority for tests"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}, a.key, nil)
	return a
}

// Leaf says what a certificate is for. Its zero value is one of a client.
type Leaf struct {
	// Host is the name or IP address of a server, in the certificate's SAN.
	Host string
	// CommonName is the subject's name.
	CommonName string
	// Expired makes one that was good an hour ago.
	Expired bool
}

// Issue makes a certificate and its key, in PEM.
func (a *Authority) Issue(leaf Leaf) (cert, key []byte) {
	a.t.Helper()
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: leaf.CommonName},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		KeyUsage:    x509.KeyUsageDigitalSignature,
	}
	if leaf.Expired {
		template.NotBefore, template.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	}
	if ip := net.ParseIP(leaf.Host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else if leaf.Host != "" {
		template.DNSNames = []string{leaf.Host}
	}
	own := newKey(a.t)
	signed := a.sign(template, own, a.cert)
	encoded, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		a.t.Fatal(err)
	}
	return pemOf("CERTIFICATE", signed.Raw), pemOf("PRIVATE KEY", encoded)
}

// Pair makes a certificate and its key for [tls.Config].
func (a *Authority) Pair(leaf Leaf) tls.Certificate {
	a.t.Helper()
	pair, err := tls.X509KeyPair(a.Issue(leaf))
	if err != nil {
		a.t.Fatal(err)
	}
	return pair
}

// PEM gives the authority's own certificate.
func (a *Authority) PEM() []byte { return pemOf("CERTIFICATE", a.cert.Raw) }

// Pool gives the authority as what is trusted.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func (a *Authority) sign(template *x509.Certificate, own *ecdsa.PrivateKey, parent *x509.Certificate) *x509.Certificate {
	a.t.Helper()
	if parent == nil {
		parent = template
	}
	if template.NotAfter.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
		template.NotAfter = template.NotBefore.Add(lifetime)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, parent, own.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return signed
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// Volume is a folder in which a Secret is mounted: its files are links by way of ..data, a link to the folder of one
// version, and a new version comes by replacing that one link.
type Volume struct {
	t      testing.TB
	folder string
	swaps  int
}

// Mount makes a volume with files.
func Mount(t testing.TB, files map[string][]byte) *Volume {
	t.Helper()
	v := &Volume{t: t, folder: t.TempDir()}
	v.Swap(files)
	for name := range files {
		v.must(os.Symlink(filepath.Join("..data", name), v.Path(name)))
	}
	return v
}

// Path gives the path by which a file is configured.
func (v *Volume) Path(name string) string { return filepath.Join(v.folder, name) }

// Swap replaces all files at once.
func (v *Volume) Swap(files map[string][]byte) {
	v.t.Helper()
	v.swaps++
	version := fmt.Sprintf("..version_%d", v.swaps)
	v.must(os.Mkdir(v.Path(version), 0o700))
	for name, text := range files {
		v.must(os.WriteFile(filepath.Join(v.Path(version), name), text, 0o600))
	}
	v.must(os.Symlink(version, v.Path("..data_tmp")))
	old, _ := os.Readlink(v.Path("..data")) // the first time there is none
	v.must(os.Rename(v.Path("..data_tmp"), v.Path("..data")))
	if old != "" {
		v.must(os.RemoveAll(v.Path(old)))
	}
}

func (v *Volume) must(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
}
