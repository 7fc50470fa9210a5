package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/client"
)

// printer prints a room's events: as JSON, one object a line, or for people. Any goroutine may print.
type printer struct {
	colour bool

	mu   sync.Mutex    // held while a line is printed
	json *json.Encoder // nil: for people
}

func newPrinter(asJSON bool) *printer {
	if asJSON {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetEscapeHTML(false)
		return &printer{json: encoder}
	}
	return &printer{colour: term.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("NO_COLOR") == ""}
}

func (p *printer) print(event client.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.json != nil {
		_ = p.json.Encode(object(event)) // nobody reads any more; the end of input comes soon
		return
	}
	if line := p.line(event); line != "" {
		fmt.Println(line)
	}
}

// printPage prints a page of history, as one thing.
func (p *printer) printPage(page client.History) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.json != nil {
		messages := make([]fields, len(page.Messages))
		for i, m := range page.Messages {
			messages[i] = said(m)
		}
		_ = p.json.Encode(fields{"event", "history", "messages", messages, "more", page.More})
		return
	}
	if page.More {
		fmt.Println(p.dim("* there is more before this"))
	}
	for _, m := range page.Messages {
		fmt.Println(p.line(m))
	}
	fmt.Println(p.dim(fmt.Sprintf("* %d messages of the past", len(page.Messages))))
}

// fields are the fields of one JSON object, in order: a name, its value, and so on.
type fields []any

// MarshalJSON keeps the order, so that a person who reads along finds the event first.
func (f fields) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i := 0; i < len(f); i += 2 {
		name, err := json.Marshal(f[i])
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(f[i+1])
		if err != nil {
			return nil, err
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(append(out, name...), ':'), value...)
	}
	return append(out, '}'), nil
}

// object gives an event as scripts see it.
func object(event client.Event) fields {
	switch e := event.(type) {
	case client.Waiting:
		return fields{"event", "waiting", "reason", e.Reason}
	case client.Assigned:
		return fields{"event", "assigned", "host", e.Host, "epoch", e.Epoch, "seconds", e.Took.Seconds()}
	case client.Joined:
		return withTruncated(fields{
			"event", "joined", "room", e.Group.String(), "epoch", e.Epoch, "members", e.Members, "last_seq", e.LastSeq,
		}, e.TruncatedTo)
	case client.Resumed:
		return withTruncated(fields{"event", "resumed", "after", e.After, "epoch", e.Epoch, "members", e.Members}, e.TruncatedTo)
	case client.Message:
		return append(fields{"event", "message"}, said(e)...)
	case client.Signal:
		return fields{"event", "signal", "from", e.From, "topic", e.Topic, "body", string(e.Body)}
	case client.Acked:
		return fields{"event", "acked", "seq", e.Seq, "id", e.ID}
	case client.Refused:
		f := fields{"event", "refused", "id", e.ID, "reason", e.Reason}
		if e.RetryAfter > 0 {
			f = append(f, "retry_after_ms", e.RetryAfter.Milliseconds())
		}
		return f
	case client.Member:
		return fields{"event", "member", "player", e.Player, "state", presence(e.Here)}
	case client.Moved:
		return fields{"event", "moved"}
	case client.Closed:
		return fields{"event", "closed", "code", e.Code, "reason", e.Reason, "reconnect", e.Reconnect}
	}
	return fields{"event", fmt.Sprintf("%T", event)}
}

// said gives a message as scripts see it.
func said(m client.Message) fields {
	f := fields{"seq", m.Seq, "from", m.From, "body", string(m.Body), "id", m.ID}
	if len(m.To) > 0 {
		f = append(f, "to", m.To)
	}
	return f
}

func withTruncated(f fields, truncatedTo guildhall.Seq) fields {
	if truncatedTo > 0 {
		f = append(f, "history_truncated", truncatedTo)
	}
	return f
}

func presence(here bool) string {
	if here {
		return "here"
	}
	return "gone"
}

// line gives an event as people see it; "" for what they need not.
func (p *printer) line(event client.Event) string {
	switch e := event.(type) {
	case client.Waiting:
		return p.dim(fmt.Sprintf("* waiting: %s; still trying", e.Reason))
	case client.Assigned:
		return p.dim(fmt.Sprintf("* %s has the room (%.0f ms)", e.Host, e.Took.Seconds()*1000))
	case client.Joined:
		return p.dim(fmt.Sprintf("* you are in %s; here are %s", e.Group, names(e.Members))) + p.gone(e.TruncatedTo)
	case client.Resumed:
		return p.dim(fmt.Sprintf("* back behind message %d; here are %s", e.After, names(e.Members))) + p.gone(e.TruncatedTo)
	case client.Message:
		to := ""
		if len(e.To) > 0 {
			to = p.dim(" to " + names(e.To))
		}
		return p.dim(fmt.Sprintf("%4d ", e.Seq)) + p.bold(string(e.From)) + to + ": " + printable(e.Body)
	case client.Signal:
		return p.dim(fmt.Sprintf("* %s signals %s %s", e.From, printable([]byte(e.Topic)), printable(e.Body)))
	case client.Refused:
		if e.RetryAfter > 0 {
			return p.dim(fmt.Sprintf("* not said: %s (try again in %s)", e.Reason, e.RetryAfter))
		}
		return p.dim("* not said: " + e.Reason)
	case client.Member:
		return p.dim(fmt.Sprintf("* %s is %s", e.Player, presence(e.Here)))
	case client.Moved:
		return p.dim("* the room moves")
	case client.Closed:
		if e.Reconnect {
			return p.dim(fmt.Sprintf("* connection ended (%s), coming back", e.Code))
		}
		return p.dim("* " + e.Reason)
	}
	return ""
}

// printable keeps what somebody else wrote from driving this terminal.
func printable(body []byte) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' && c != '\t' || c == 0x7f || c >= 0x80 && c < 0xa0 {
			return '\uFFFD'
		}
		return c
	}, string(body))
}

func (p *printer) gone(truncatedTo guildhall.Seq) string {
	if truncatedTo == 0 {
		return ""
	}
	return p.dim(fmt.Sprintf("\n* messages up to %d are not kept any more", truncatedTo))
}

func names(players []guildhall.PlayerID) string {
	texts := make([]string, len(players))
	for i, player := range players {
		texts[i] = string(player)
	}
	return strings.Join(texts, ", ")
}

func (p *printer) dim(text string) string  { return p.style("2", text) }
func (p *printer) bold(text string) string { return p.style("1", text) }

func (p *printer) style(code, text string) string {
	if !p.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
