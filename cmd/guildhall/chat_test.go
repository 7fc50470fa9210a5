package main

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestWhatALineSays(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]lineOf{
		"":                        {},
		"hello":                   {text: "hello"},
		" /to p2 not a command":   {text: " /to p2 not a command"},
		"//shrug":                 {text: "/shrug"},
		"//to p2 psst":            {text: "/to p2 psst"},
		"///":                     {text: "//"},
		"/to p2 psst":             {text: "psst", to: []string{"p2"}},
		"/to  p2   two  words ":   {text: "two  words", to: []string{"p2"}},
		"/to p2 /history":         {text: "/history", to: []string{"p2"}},
		"/history":                {page: pageLength},
		"/history ":               {page: pageLength},
		"/history 3":              {page: 3},
		"http://example.com/to/x": {text: "http://example.com/to/x"},
	} {
		if got, err := parseLine(line); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q says %+v, %v; want %+v", line, got, err, want)
		}
	}
	for line, says := range map[string]string{
		"/":             "there is no /",
		"/two p2 psst":  "there is no /two",
		"/tomorrow":     "there is no /tomorrow",
		"/to":           "/to PLAYER text",
		"/to p2":        "/to PLAYER text",
		"/to p2 ":       "/to PLAYER text",
		"/history all":  "/history N",
		"/history 0":    "/history N",
		"/history -1":   "/history N",
		"/history 1 2":  "/history N",
		"/historyofart": "there is no /historyofart",
	} {
		if got, err := parseLine(line); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q says %+v, %v; want an error with %q", line, got, err, says)
		}
	}
}

// One who mistypes a command is told, and nobody reads what was meant for one.
func TestLinesThatBeginWithASlash(t *testing.T) {
	t.Parallel()
	u := up(t, "--hosts", "1")
	e := newEntered(t, u.url, "p1", "party:42", func(e *entered) { e.Stderr = &bytes.Buffer{} })
	for _, line := range []string{"//shrug", "/two p2 psst", "", "the end"} {
		e.say(line)
	}
	for i, want := range []string{"/shrug", "the end"} {
		if m := e.await("message"); m["seq"] != float64(i+1) || m["body"] != want {
			t.Errorf("message %d is %v, want %q", i+1, m, want)
		}
	}
	if code := e.leave(); code != 0 {
		t.Errorf("enter ended with exit code %d", code)
	}
	if told := fmt.Sprint(e.Stderr); !strings.Contains(told, "there is no /two") {
		t.Errorf("told %q", told)
	}
	u.interrupt()
	if code := u.end(); code != 0 {
		t.Errorf("up ended with exit code %d", code)
	}
}

func TestAfterAndLastExcludeOneAnother(t *testing.T) {
	t.Parallel()
	out, err := command(t, "enter", "--player", "p1", "--group", "guild:a", "--after", "3", "--last", "5").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "--last") || !strings.Contains(string(out), "--after") {
		t.Errorf("ended with %v: %s", err, out)
	}
}
