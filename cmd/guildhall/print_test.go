package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/client"
)

// Scripts depend on these, to the letter.
func TestEventsAsJSON(t *testing.T) {
	t.Parallel()
	dragons := guildhall.Group{Kind: "guild", ID: "dragons"}
	for want, event := range map[string]client.Event{
		`{"event":"waiting","reason":"the matchmaker does not answer"}`: client.Waiting{Reason: "the matchmaker does not answer"},
		`{"event":"assigned","host":"h1","epoch":7,"seconds":0.25}`:     client.Assigned{Host: "h1", Epoch: 7, Took: 250 * time.Millisecond},
		`{"event":"joined","room":"guild:dragons","epoch":7,"members":["p1"],"last_seq":41}`: client.Joined{
			Group: dragons, Epoch: 7, Members: []guildhall.PlayerID{"p1"}, LastSeq: 41,
		},
		`{"event":"resumed","after":8,"epoch":7,"members":["p1"],"history_truncated":9}`: client.Resumed{
			After: 8, Epoch: 7, Members: []guildhall.PlayerID{"p1"}, TruncatedTo: 9,
		},
		`{"event":"message","seq":7,"from":"p2","body":"hi","id":"a"}`: client.Message{Seq: 7, From: "p2", ID: "a", Body: []byte("hi")},
		`{"event":"message","seq":7,"from":"p2","body":"hi","id":"a","to":["p1","p3"]}`: client.Message{
			Seq: 7, From: "p2", ID: "a", Body: []byte("hi"), To: []guildhall.PlayerID{"p1", "p3"},
		},
		`{"event":"signal","from":"p2","topic":"typing","body":"…"}`: client.Signal{From: "p2", Topic: "typing", Body: []byte("…")},
		`{"event":"acked","seq":8,"id":"a"}`:                         client.Acked{Seq: 8, ID: "a"},
		`{"event":"refused","id":"a","reason":"no"}`:                 client.Refused{ID: "a", Reason: "no"},
		`{"event":"refused","id":"a","reason":"slow","retry_after_ms":1500}`: client.Refused{
			ID: "a", Code: guildhallv1.RefuseCode_REFUSE_CODE_RATE_LIMITED, Reason: "slow", RetryAfter: 1500 * time.Millisecond,
		},
		`{"event":"member","player":"p2","state":"gone"}`: client.Member{Player: "p2"},
		`{"event":"moved"}`: client.Moved{},
		`{"event":"closed","code":"left","reason":"you left","reconnect":false}`: client.Closed{Code: "left", Reason: "you left"},
	} {
		var out bytes.Buffer
		encoder := json.NewEncoder(&out)
		encoder.SetEscapeHTML(false)
		p := &printer{json: encoder}
		if p.print(event); out.String() != want+"\n" {
			t.Errorf("printed %s, want %s", out.String(), want)
		}
	}
}

func TestAPageAsJSON(t *testing.T) {
	t.Parallel()
	for want, page := range map[string]client.History{
		`{"event":"history","messages":[],"more":false}`: {},
		`{"event":"history","messages":[{"seq":7,"from":"p2","body":"hi","id":"a"},{"seq":9,"from":"p2","body":"psst","id":"b","to":["p1"]}],"more":true}`: {
			Messages: []client.Message{
				{Seq: 7, From: "p2", ID: "a", Body: []byte("hi")},
				{Seq: 9, From: "p2", ID: "b", Body: []byte("psst"), To: []guildhall.PlayerID{"p1"}},
			},
			More: true,
		},
	} {
		var out bytes.Buffer
		p := &printer{json: json.NewEncoder(&out)}
		if p.printPage(page); out.String() != want+"\n" {
			t.Errorf("printed %s, want %s", out.String(), want)
		}
	}
}

func TestEventsForPeople(t *testing.T) {
	t.Parallel()
	p := &printer{}
	for want, event := range map[string]client.Event{
		"   7 p2: hi":              client.Message{Seq: 7, From: "p2", Body: []byte("hi")},
		"   7 p2 to p1, p3: psst":  client.Message{Seq: 7, From: "p2", Body: []byte("psst"), To: []guildhall.PlayerID{"p1", "p3"}},
		"* p2 signals wave \uFFFD": client.Signal{From: "p2", Topic: "wave", Body: []byte{7}},
		"try again in 1.5s":        client.Refused{Reason: "slow", RetryAfter: 1500 * time.Millisecond},
		"not said: no":             client.Refused{Reason: "no"},
	} {
		if got := p.line(event); !strings.Contains(got, want) {
			t.Errorf("printed %q, want %q", got, want)
		}
	}
}
