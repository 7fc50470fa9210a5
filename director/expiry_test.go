package director

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/guildhall-dev/guildhall/internal/certtest"
)

// expiries gives what a registry shows of certificates, by what they are.
func expiries(t *testing.T, registry *prometheus.Registry) map[string]time.Time {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]time.Time{}
	for _, family := range families {
		if family.GetName() == "guildhall_director_certificate_expiry_timestamp_seconds" {
			for _, m := range family.GetMetric() {
				shown[m.GetLabel()[0].GetValue()] = time.Unix(int64(m.GetGauge().GetValue()), 0)
			}
		}
	}
	return shown
}

// The gauge is of the files as they are when it is read: a certificate that has been renewed is no reason to worry, and one
// that cannot be read is.
func TestExpiryOfCertificatesIsShown(t *testing.T) {
	for _, kind := range []Door{DoorAllocator, DoorKubernetes} {
		t.Run(string(kind), func(t *testing.T) {
			d := newDoorway(t, t.Context(), &smallAllocator{})
			d.serveDoor(kind)
			want := 1
			if kind == DoorAllocator {
				want = 2
			}
			shown := expiries(t, d.registry)
			if len(shown) != want {
				t.Fatalf("%v are shown, want %d", shown, want)
			}
			for what, at := range shown {
				if left := time.Until(at); left < 22*time.Hour || left > 24*time.Hour {
					t.Errorf("%s expires in %s, and was made for 23 hours", what, left)
				}
			}
			old, _ := d.clients.Issue(certtest.Leaf{Expired: true})
			d.volume.Swap(d.files(map[string][]byte{"ca.crt": append(old, d.server.PEM()...), "tls.crt": append(d.clients.PEM(), old...)}))
			shown = expiries(t, d.registry)
			if time.Until(shown["ca"]) < 0 {
				t.Error("an old authority beside the new one counts")
			}
			if kind == DoorAllocator && time.Until(shown["client"]) > 0 {
				t.Error("an expired certificate of our own does not count")
			}
			d.volume.Swap(d.files(map[string][]byte{"ca.crt": nil, "tls.crt": []byte("a word")}))
			for what, at := range expiries(t, d.registry) {
				if at.Unix() != 0 {
					t.Errorf("%s cannot be read, and expires at %s", what, at)
				}
			}
		})
	}
}

// A file with a key before its certificates is read, too.
func TestExpiryBehindAKey(t *testing.T) {
	authority := certtest.New(t)
	cert, key := authority.Issue(certtest.Leaf{})
	file := filepath.Join(t.TempDir(), "both.pem")
	if err := os.WriteFile(file, append(key, cert...), 0o600); err != nil {
		t.Fatal(err)
	}
	if at := expiry(file, true); time.Until(at) < 22*time.Hour {
		t.Errorf("it expires at %s, and was made for 23 hours", at)
	}
}
