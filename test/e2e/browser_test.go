package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/guildhall-dev/guildhall/embedded"
)

// browserVariable names the browser; without it the usual names are tried. If it is set and there is none, the test fails.
const browserVariable = "GUILDHALL_TEST_CHROMIUM"

// harness is put behind the page: it tells the test what the page shows, and says what the test wants said.
const harness = `<script>
  const shown = show;
  let told = Promise.resolve(); // one at a time, or they overtake one another
  show = (message) => {
    shown(message);
    told = told.then(() => fetch("/saw", { method: "POST", body: JSON.stringify(message) }));
  };
  (async () => { for (;;) say(await (await fetch("/next")).text()); })();
</script>`

// pageMessage is a message as the page got it.
type pageMessage struct{ Seq, From, Text string }

// A page of plain JavaScript enters, speaks, loses its connection with its host, comes back and has missed nothing.
func TestBrowser(t *testing.T) {
	if !isEmbedded {
		t.Skip("the test kills a host, which it does only to its own")
	}
	path := findBrowser(t)
	setup(t)
	config := embedded.Config{Hosts: 2}
	config.Frontend.AllowOrigins = []string{"*"}
	own := startOwn(t, config)
	b := setupAt(t, own.URL())
	group := b.group("guild")
	page := newPage(t)
	browse(t, path, page.url+"?"+url.Values{"server": {own.URL()}, "player": {"browser"}, "group": {group.String()}}.Encode())

	other := b.join("other", group)
	page.say(b, "hello from a browser")
	other.untilSeen(1)
	page.sees(b, pageMessage{"1", "browser", "hello from a browser"})
	b.acked(other, "hello, browser")
	page.sees(b, pageMessage{"2", "other", "hello, browser"})

	if err := syscall.Kill(int(b.host(b.room(group).GetHost()).GetPid()), syscall.SIGKILL); err != nil {
		t.Fatalf("killing the host: %v", err)
	}
	go drainInto(other)
	page.say(b, "still here") // while its host is dead
	for n := range 5 {
		b.acked(other, fmt.Sprint("line ", n))
	}
	var fromOther []string
	stillHere := 0
	for n := range 6 {
		got := page.next(b)
		if got.Seq != fmt.Sprint(n+3) {
			t.Fatalf("the page shows number %s behind %d", got.Seq, n+2)
		}
		if got.From == "other" {
			fromOther = append(fromOther, got.Text)
		} else if got.Text == "still here" {
			stillHere++
		}
	}
	if want := []string{"line 0", "line 1", "line 2", "line 3", "line 4"}; !slices.Equal(fromOther, want) || stillHere != 1 {
		t.Errorf("the page shows %v of the other and its own line %d times, want %v, and once", fromOther, stillHere, want)
	}
}

// acked says something and waits until it is durable.
func (b *bundle) acked(p *player, text string) {
	b.t.Helper()
	if _, err := p.say(text).Wait(b.ctx); err != nil {
		b.t.Fatalf("%q was not acked: %v", text, err)
	}
}

func findBrowser(t *testing.T) string {
	t.Helper()
	names := []string{"chromium", "chromium-browser", "google-chrome"}
	if named := os.Getenv(browserVariable); named != "" {
		names = []string{named}
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv(browserVariable) != "" {
		t.Fatalf("%s=%s: there is no such program", browserVariable, os.Getenv(browserVariable))
	}
	t.Skipf("no browser: install chromium, or name one in %s", browserVariable)
	return ""
}

// page is the page and what goes through the harness.
type page struct {
	url   string
	saw   chan pageMessage
	lines chan string
}

// newPage serves the page with the harness behind it.
func newPage(t *testing.T) *page {
	t.Helper()
	html, err := os.ReadFile(filepath.Join("testdata", "page.html"))
	if err != nil {
		t.Fatal(err)
	}
	p := &page{saw: make(chan pageMessage, 64), lines: make(chan string)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(append(html, harness...)) // the browser has gone if not
	})
	mux.HandleFunc("POST /saw", func(_ http.ResponseWriter, r *http.Request) {
		var m pageMessage
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Errorf("what the page shows: %v", err)
		}
		p.saw <- m
	})
	mux.HandleFunc("GET /next", func(w http.ResponseWriter, r *http.Request) {
		select {
		case line := <-p.lines:
			_, _ = w.Write([]byte(line)) // the browser has gone if not
		case <-r.Context().Done():
		}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	p.url = server.URL + "/"
	return p
}

// say has the page say something.
func (p *page) say(b *bundle, line string) {
	b.t.Helper()
	select {
	case p.lines <- line:
	case <-b.ctx.Done():
		b.t.Fatalf("the page does not ask what to say")
	}
}

// next gives the next message that the page shows.
func (p *page) next(b *bundle) pageMessage {
	b.t.Helper()
	select {
	case m := <-p.saw:
		return m
	case <-b.ctx.Done():
		b.t.Fatal("the page shows nothing more")
		return pageMessage{}
	}
}

func (p *page) sees(b *bundle, want pageMessage) {
	b.t.Helper()
	if got := p.next(b); got != want {
		b.t.Fatalf("the page shows %v, want %v", got, want)
	}
}

// browse opens a page in a browser without a window until the test is over.
func browse(t *testing.T, path, address string) {
	t.Helper()
	var output strings.Builder
	command := exec.CommandContext(t.Context(), path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--no-first-run", "--disable-background-networking", "--user-data-dir="+t.TempDir(), "--remote-debugging-port=0", address)
	command.Stderr = &output
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill() // it may have ended
		_ = command.Wait()         // it was killed
		if t.Failed() {
			t.Logf("the browser said: %s", output.String())
		}
	})
}
