package roomserver

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// browser is a player who speaks JSON, and who sees what a program in a browser sees.
type browser struct {
	t    *testing.T
	link *wsLink
}

func (h *running) browser(t *testing.T, hello string) *browser {
	t.Helper()
	p := &browser{t: t, link: h.b.dialWebSocket(h.address, true)}
	h.b.t.Cleanup(p.link.cut)
	p.says(hello)
	return p
}

func (p *browser) says(frame string) {
	p.t.Helper()
	if err := p.link.send([]byte(frame)); err != nil {
		p.t.Fatal(err)
	}
}

// gets reads until there is a frame of a kind, and gives it.
func (p *browser) gets(kind string) map[string]any {
	p.t.Helper()
	for {
		text, err := p.link.receive()
		if err != nil {
			p.t.Fatalf("waiting for %s: %v", kind, err)
		}
		var frame map[string]map[string]any
		if err := json.Unmarshal(text, &frame); err != nil || len(frame) != 1 {
			p.t.Fatalf("%s came: %v", text, err)
		}
		if got, is := frame[kind]; is {
			return got
		}
	}
}

// hears reads until there are so many messages or signals, and gives the last.
func (p *browser) hears(kind string, n int) map[string]any {
	p.t.Helper()
	for {
		for _, event := range p.gets("events")["events"].([]any) {
			if got, is := event.(map[string]any)[kind]; is {
				if n--; n == 0 {
					return got.(map[string]any)
				}
			}
		}
	}
}

// In JSON, what is text goes in and comes out as text, and what is not comes out in base64, whoever said it and however.
func TestTextInJSON(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	claim := h.openRoom(dragons)
	other := h.join("p2", claim, nil) // over gRPC
	p := h.browser(t, fmt.Sprintf(`{"hello":{"pass":%q,"after":"0","colour":"red"},"more":{"unknown":[1,{"x":2}]}}`, b.pass("p1", claim)))
	if got := p.gets("welcome"); got["player"] != "p1" || got["lastSeq"] != nil {
		t.Errorf("the welcome is %v", got)
	}
	for _, c := range []struct{ say, kind, want, body string }{
		{`"text":"hé \"you\""`, "text", `hé "you"`, `hé "you"`},
		{`"text":"{}","contentType":"application/json"`, "text", "{}", "{}"},
		{`"text":"<x>","content_type":"text/html"`, "text", "<x>", "<x>"},
		{`"body":"AAH/"`, "body", "AAH/", "\x00\x01\xff"}, // no text, whatever its type
		{`"body":"aGk="`, "text", "hi", "hi"},
		{`"body":"aGk=","contentType":"image/png"`, "body", "aGk=", "hi"},
		{`"text":"hi","contentType":"image/png"`, "body", "aGk=", "hi"},
		{`"text":""`, "", "", ""},
	} {
		n := len(other.messages) + 1
		p.says(fmt.Sprintf(`{"say":{"id":"%d",%s}}`, n, c.say))
		got := p.hears("message", 1)
		if c.kind != "" && got[c.kind] != c.want || (got["text"] != nil) != (c.kind == "text") || (got["body"] != nil) != (c.kind == "body") {
			t.Errorf("{%s} came out as %v, want %s %q", c.say, got, c.kind, c.want)
		}
		other.seen(uint64(n))
		if m := other.messages[n-1]; string(m.GetBody()) != c.body || m.GetText() != "" {
			t.Errorf("{%s} came out over gRPC as %v, want body %q", c.say, m, c.body)
		}
	}
	p.says(`{"readHistory":{"limit":1}}`)
	if page := p.gets("history"); len(page["messages"].([]any)) != 1 {
		t.Errorf("the last message is %v", page)
	}
}

func TestSignalsInJSON(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	claim := h.openRoom(dragons)
	other := h.join("p2", claim, nil)
	p := h.browser(t, fmt.Sprintf(`{"hello":{"pass":%q}}`, b.pass("p1", claim)))
	p.gets("welcome")
	p.says(`{"signal":{"topic":"typing","text":"..."}}`)
	other.must("the signal", func() bool { return len(other.signals) == 1 })
	if s := other.signals[0]; string(s.GetBody()) != "..." || s.GetText() != "" || s.GetFrom() != "p1" {
		t.Errorf("over gRPC it came as %v", s)
	}
	for n, c := range map[string]string{"hi": "text", "\xff": "body"} {
		other.signal(&guildhallv1.Signal{Topic: "wave", Body: []byte(n)})
		if got := p.hears("signal", 1); got[c] == nil || got["from"] != "p2" {
			t.Errorf("%q came in JSON as %v, want a %s", n, got, c)
		}
	}
	p.says(`{"ping":{}}`)
	p.gets("pong")
}

// What is not JSON, or is not a frame, is told as a mistake.
func TestWhatIsNoJSON(t *testing.T) {
	b := setup(t)
	h := b.host("h1")
	claim := h.openRoom(dragons)
	for _, bad := range []string{"", "{", "null x", `"hello"`, `{"hello":7}`, `{"say":{"id":"1","body":"%%%"}}`, `{"say":{"id":"1"},"leave":{}}`, "\x00\xff"} {
		p := h.browser(t, fmt.Sprintf(`{"hello":{"pass":%q}}`, b.pass("p1", claim)))
		p.gets("welcome")
		p.says(bad)
		if got := p.gets("closed"); got["code"] != "CLOSE_CODE_PROTOCOL" {
			t.Errorf("%q was answered with %v", bad, got)
		}
	}
}

// The largest body fits in JSON, too, where it is longer: in base64, and as text of quotes and line ends.
func TestTheLargestBodyInJSON(t *testing.T) {
	for _, bodyBytes := range []int{4096, maxBodyBytes} {
		t.Run(fmt.Sprint(bodyBytes), func(t *testing.T) {
			b := setup(t)
			b.bodyBytes, b.wire, b.limits = bodyBytes, overJSON, unlimited
			h := b.host("h1")
			m := h.join("p1", h.openRoom(dragons), nil)
			m.say("binary", strings.Repeat("\xff", bodyBytes))
			m.acked("binary")
			m.whisper("text", strings.Repeat("\"\n", bodyBytes/2))
			m.acked("text")
		})
	}
}
