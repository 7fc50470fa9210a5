package kubernetes

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/guildhall-dev/guildhall/internal/certtest"
)

const (
	// issuer is whose the tokens of service accounts are, and whom they are for.
	issuer = "https://kubernetes.default.svc"
	// adminToken is that of whoever may do everything.
	adminToken = "a-token-of-the-administrator"
	// frontProxy is the name by which the API server calls those that serve a part of it.
	frontProxy = "front-proxy"
	// stopGrace is how long a server may take to stop.
	stopGrace = 30 * time.Second
)

// cluster is an API server and its etcd.
type cluster struct {
	folder    string
	url       string
	ca        []byte // of the API server's certificate
	accounts  []byte // the key that signs tokens of service accounts, PEM
	front     *certtest.Authority
	programs  []*program
	extension *extension
}

var (
	clusterMu sync.Mutex
	running   *cluster // guarded by clusterMu
)

// theCluster gives the cluster that all tests share, started by the first of them.
func theCluster(t *testing.T) *cluster {
	t.Helper()
	clusterMu.Lock()
	defer clusterMu.Unlock()
	if running == nil {
		started, err := startCluster(t)
		if err != nil {
			t.Fatal(errors.Join(err, started.stop()))
		}
		running = started
	}
	return running
}

func stopCluster() error {
	clusterMu.Lock()
	defer clusterMu.Unlock()
	if running == nil {
		return nil
	}
	return running.stop()
}

// startCluster starts both servers, and has Agones' part of the API served.
func startCluster(t *testing.T) (*cluster, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := &cluster{front: certtest.New(t)}
	var err error
	if c.folder, err = os.MkdirTemp("", "guildhall-kubernetes-"); err != nil {
		return c, err
	}
	if c.extension, err = startExtension(t, c.front); err != nil {
		return c, err
	}
	etcd, err := c.startEtcd(ctx)
	if err != nil {
		return c, err
	}
	if err := c.startAPIServer(ctx, t, etcd); err != nil {
		return c, err
	}
	return c, c.furnish(ctx)
}

// startEtcd gives the URL of one.
func (c *cluster) startEtcd(ctx context.Context) (string, error) {
	ports, err := freePorts(2)
	if err != nil {
		return "", err
	}
	client, peer := "http://127.0.0.1:"+ports[0], "http://127.0.0.1:"+ports[1]
	etcd, err := c.run("etcd", "--data-dir", filepath.Join(c.folder, "etcd"), "--unsafe-no-fsync",
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer)
	if err != nil {
		return "", err
	}
	return client, etcd.ready(ctx, func() error { return getOK(ctx, http.DefaultClient, client+"/health", "") })
}

// startAPIServer starts the API server with certificates, keys and accounts of its own.
func (c *cluster) startAPIServer(ctx context.Context, t *testing.T, etcd string) error {
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	own := certtest.New(t)
	c.url, c.ca = "https://127.0.0.1:"+ports[0], own.PEM()
	cert, key := own.Issue(certtest.Leaf{Host: "127.0.0.1"})
	frontCert, frontKey := c.front.Issue(certtest.Leaf{CommonName: frontProxy})
	var accountsCert []byte
	accountsCert, c.accounts = own.Issue(certtest.Leaf{CommonName: "accounts"})
	files := map[string][]byte{
		"tls.crt": cert, "tls.key": key, "front.crt": frontCert, "front.key": frontKey, "front-ca.crt": c.front.PEM(),
		"accounts.crt": accountsCert, "accounts.key": c.accounts,
		"tokens.csv": []byte(adminToken + `,administrator,administrator,"system:masters"` + "\n"),
		"audit.yaml": []byte(auditPolicy),
	}
	for name, text := range files {
		if err := os.WriteFile(c.path(name), text, 0o600); err != nil {
			return err
		}
	}
	server, err := c.run("kube-apiserver",
		"--etcd-servers="+etcd, "--bind-address=127.0.0.1", "--secure-port="+ports[0],
		"--tls-cert-file="+c.path("tls.crt"), "--tls-private-key-file="+c.path("tls.key"), "--cert-dir="+c.folder,
		"--token-auth-file="+c.path("tokens.csv"), "--authorization-mode=RBAC", "--allow-privileged", // as in any cluster: what refuses it is pod security
		"--service-account-issuer="+issuer,
		"--service-account-key-file="+c.path("accounts.crt"), "--service-account-signing-key-file="+c.path("accounts.key"),
		"--requestheader-client-ca-file="+c.path("front-ca.crt"), "--requestheader-allowed-names="+frontProxy,
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file="+c.path("front.crt"), "--proxy-client-key-file="+c.path("front.key"),
		"--audit-policy-file="+c.path("audit.yaml"), "--audit-log-path="+c.path("audit.log"),
		"--service-cluster-ip-range=10.96.0.0/16", "--endpoint-reconciler-type=none",
	)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: own.Pool(), MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}}
	return server.ready(ctx, func() error { return getOK(ctx, client, c.url+"/readyz", adminToken) })
}

// auditPolicy keeps what service accounts ask for.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: Metadata, userGroups: ["system:serviceaccounts"]}
  - {level: None}
`

// audited is one request of a service account, as the API server has seen it.
type audited struct {
	Verb      string
	User      struct{ Username string }
	ObjectRef struct{ APIGroup, Resource, Namespace, Subresource string }
	UserAgent string
	Status    struct{ Code int } `json:"responseStatus"`
}

// audit gives what service accounts have asked for so far.
func (c *cluster) audit() ([]audited, error) {
	file, err := os.Open(c.path("audit.log"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var all []audited
	for decoder := json.NewDecoder(file); ; {
		var one audited
		if err := decoder.Decode(&one); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) { // the last line is being written
				return all, nil
			}
			return nil, err
		}
		all = append(all, one)
	}
}

func (c *cluster) path(name string) string { return filepath.Join(c.folder, name) }

// config is that of a client that shows a token.
func (c *cluster) config(token string) *rest.Config {
	return &rest.Config{
		Host: c.url, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{CAData: c.ca}, QPS: -1, WarningHandler: rest.NoWarnings{},
	}
}

// stop stops the servers, the last one first.
func (c *cluster) stop() error {
	var errs []error
	for _, p := range slices.Backward(c.programs) {
		errs = append(errs, p.stop())
	}
	if c.extension != nil {
		errs = append(errs, c.extension.stop())
	}
	return errors.Join(append(errs, os.RemoveAll(c.folder))...)
}

// program is a server that runs.
type program struct {
	name    string
	command *exec.Cmd
	log     string        // the file with what it says
	exited  chan struct{} // closed when it has ended
	err     error         // how; set before exited is closed
}

// run starts a server.
func (c *cluster) run(name string, args ...string) (*program, error) {
	path, err := filepath.Abs(filepath.Join(binaries, name))
	if err != nil {
		return nil, err
	}
	p := &program{name: name, log: c.path(name + ".log"), exited: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.command = exec.Command(path, args...)
	p.command.Stdout, p.command.Stderr, p.command.Dir = log, log, c.folder
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	c.programs = append(c.programs, p)
	go func() {
		defer close(p.exited)
		p.err = p.command.Wait()
	}()
	return p, nil
}

// ready waits until a server answers, or has ended.
func (p *program) ready(ctx context.Context, answers func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err := eventually(ctx, func() error {
		select {
		case <-p.exited:
			cancel()
			return fmt.Errorf("it has ended: %w", p.err)
		default:
			return answers()
		}
	})
	if err != nil {
		return fmt.Errorf("%s does not become ready: %w; it says\n%s", p.name, err, p.said())
	}
	return nil
}

// said gives the end of what a server has logged.
func (p *program) said() string {
	const most = 20
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-most):], "\n")
}

// stop ends a server, by force if it does not end by itself.
func (p *program) stop() error {
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case <-p.exited:
	case <-grace.C:
		err := p.command.Process.Kill()
		<-p.exited
		return errors.Join(fmt.Errorf("%s did not stop within %v", p.name, stopGrace), err)
	}
	return nil
}

// getOK is an error unless a GET brings 200.
func getOK(ctx context.Context, client *http.Client, url, token string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<12)) // what there is of the text
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s: %s", url, response.Status, text)
	}
	return nil
}

// freePorts gives ports of the loopback interface that nobody listens at: neither server can be told to take any and say
// which.
func freePorts(n int) ([]string, error) {
	var ports []string
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close() // once all are found, so that none is found twice
		_, port, _ := net.SplitHostPort(listener.Addr().String())
		ports = append(ports, port)
	}
	return ports, nil
}
