package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/api/guildhall/v1/guildhallv1connect"
	"github.com/guildhall-dev/guildhall/internal/brokerlocal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// configFile is Prometheus' configuration beside guildhall up, as the README gives it.
const configFile = "prometheus.yml"

// patience bounds every wait: what takes longer has failed. It is not a time limit for the product.
const patience = 90 * time.Second

// live is a running Guildhall, and a Prometheus that scrapes it.
type live struct {
	t          *testing.T
	ctx        context.Context
	client     *http.Client
	guildhall  string // the program
	server     string // where players call
	prometheus string // where Prometheus answers
}

// Everything that dashboards, rules, alerts and runbooks ask for is an expression, and is there: asked of a Prometheus that
// scrapes a Guildhall in which players have come, talked, been banned and refused, and hosts have been killed and drained.
func TestWhatIsAskedForIsThere(t *testing.T) {
	t.Parallel()
	prometheus := tool(t, "prometheus")
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	t.Cleanup(cancel)
	l := &live{t: t, ctx: ctx, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	l.up()
	l.scrape(prometheus)
	l.use()
	l.rulesAreHealthy()
	if a := l.ask("query", url.Values{"query": {`ALERTS{alertname="GuildhallSplitSuspected"}`}}); len(a.Result) > 0 {
		t.Errorf("hosts were killed and drained, and a split is suspected: %s", a.Data)
	}
	expressions := everyExpression(t)
	if len(expressions) < 100 {
		t.Fatalf("only %d expressions were found", len(expressions))
	}
	for expr, where := range expressions {
		for _, complaint := range l.mistakes(expr) {
			l.t.Errorf("%s: %s: %s", where, expr, complaint)
		}
	}
	for _, expr := range []string{ // what all of this is for, it finds
		`sum(guildhall_host_rooms`, `sum(rate(guildhall_host_room_total[5m]))`, `sum by (shard) (guildhall_host_rooms)`,
		`guildhall_host_rooms{host="h1"}`, `guildhall_host_ended_rooms_total{why="boredom"}`, `agones_game_servers_count`,
		`agones_gameservers_count{fleet="rooms"}`, `namespace:guildhall_host_rooms:avg`,
	} {
		if len(l.mistakes(expr)) == 0 {
			t.Errorf("nothing is found wrong with %s", expr)
		}
	}
}

// everyExpression gives what is asked for anywhere, and where.
func everyExpression(t *testing.T) map[string]string {
	t.Helper()
	expressions := map[string]string{}
	for _, d := range dashboards {
		for _, r := range d.rows {
			for _, p := range r.panels {
				for _, q := range p.queries {
					expressions[q.expr] = d.title + " > " + p.title
				}
			}
		}
	}
	records, alerts := readRules(t)
	for _, r := range slices.Concat(records, alerts) {
		expressions[r.Expr] = "the rule " + r.Record + r.Alert
	}
	for file, text := range readRunbooks(t) {
		for _, block := range promql.FindAllStringSubmatch(text, -1) {
			for expr := range strings.Lines(block[1]) {
				expressions[strings.TrimSpace(expr)] = file
			}
		}
	}
	return expressions
}

// promql is a block of expressions in a runbook, one a line.
var promql = regexp.MustCompile("(?s)```promql\n(.*?)\n```")

// up builds guildhall from the tree and runs it until the test ends.
func (l *live) up() {
	l.t.Helper()
	l.guildhall = filepath.Join(l.t.TempDir(), "guildhall")
	build := exec.Command("go", "build", "-o", l.guildhall, "./cmd/guildhall")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		l.t.Fatalf("building guildhall: %v\n%s", err, out)
	}
	command := exec.Command(l.guildhall, "up", "--listen", "127.0.0.1:0")
	out, err := command.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	l.start(command)
	ready := make(chan string, 1)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if address, is := strings.CutPrefix(lines.Text(), "ready "); is {
				ready <- address
			}
		}
	}()
	l.t.Cleanup(func() {
		l.stop(command)
		<-read
	})
	select {
	case l.server = <-ready:
	case <-read:
		l.t.Fatal("guildhall up has ended")
	case <-l.ctx.Done():
		l.t.Fatal("guildhall up is never ready")
	}
}

func (l *live) start(command *exec.Cmd) {
	l.t.Helper()
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "GUILDHALL_") {
			command.Env = append(command.Env, pair)
		}
	}
	if err := command.Start(); err != nil {
		l.t.Fatal(err)
	}
}

// stop asks a process to end, and waits until it has.
func (l *live) stop(command *exec.Cmd) {
	if err := command.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		l.t.Error(err)
	}
	kill := time.AfterFunc(patience, func() { _ = command.Process.Kill() })
	defer kill.Stop()
	if _, err := command.Process.Wait(); err != nil {
		l.t.Error(err)
	}
}

// scrape runs Prometheus as the README says, only faster, until the test ends.
func (l *live) scrape(prometheus string) {
	l.t.Helper()
	raw, err := os.ReadFile(configFile)
	if err != nil {
		l.t.Fatal(err)
	}
	rules, err := filepath.Abs(rulesFile)
	if err != nil {
		l.t.Fatal(err)
	}
	config := strings.NewReplacer("http://127.0.0.1:7777", l.server, ": 5s", ": 1s", rulesFile, rules).Replace(string(raw))
	folder := l.t.TempDir()
	file := filepath.Join(folder, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		l.t.Fatal(err)
	}
	address := freeAddress(l.t)
	l.prometheus = "http://" + address
	command := exec.Command(prometheus, "--config.file", file, "--storage.tsdb.path", filepath.Join(folder, "data"),
		"--web.listen-address", address, "--log.level", "warn")
	command.Stderr = os.Stderr
	l.start(command)
	l.t.Cleanup(func() { l.stop(command) })
	l.eventually("Prometheus is ready", func() bool {
		response, err := l.client.Get(l.prometheus + "/-/ready")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
}

// freeAddress gives an address that nobody listened at a moment ago: Prometheus does not tell which one it has got.
func freeAddress(t *testing.T) string {
	t.Helper()
	ports, err := brokerlocal.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0]))
}

// use does what there is to be measured.
func (l *live) use() {
	l.t.Helper()
	l.eventually("all parts are scraped", func() bool {
		return len(l.ask("query", url.Values{"query": {"count by (part) (guildhall_build_info)"}}).Result) == 4
	})
	l.run("load", "churn", "--seconds", "8", "--kill-every", "4", "--groups", "4", "--players", "20", "--rate", "40")
	l.run("load", "fanout", "--rooms", "2", "--members", "5", "--rate", "20", "--seconds", "2", "--signal", "--ws")
	if out, err := l.call("enter", "--player", "p1", "--group", "guild:dragons", "--token", "no.token.at.all"); err == nil {
		l.t.Errorf("a player without a token came in: %s", out)
	}
	operator := guildhallv1connect.NewOperatorServiceClient(l.client, l.server)
	ban := &guildhallv1.BanRequest{Group: "guild:dragons", Player: "p2"}
	if _, err := operator.Ban(l.ctx, connect.NewRequest(ban)); err != nil {
		l.t.Error(err)
	}
	if out, err := l.call("enter", "--player", "p2", "--group", "guild:dragons"); err == nil {
		l.t.Errorf("a banned player came in: %s", out)
	}
	l.drain(operator)
	l.isScraped()
}

// isScraped waits until all that has happened has been scraped, and rules have been evaluated behind that.
func (l *live) isScraped() {
	l.t.Helper()
	query := fmt.Sprintf("min(timestamp(guildhall_build_info)) > %d", time.Now().Add(3*time.Second).Unix())
	l.eventually("all has been scraped", func() bool { return len(l.ask("query", url.Values{"query": {query}}).Result) == 1 })
}

// drain has a host that has a room move it: while somebody sits there, by SIGTERM, as when a node is drained.
func (l *live) drain(operator guildhallv1connect.OperatorServiceClient) {
	l.t.Helper()
	command := exec.Command(l.guildhall, "enter", "--player", "p3", "--group", "guild:dragons", "--json", "--server", l.server)
	in, err := command.StdinPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	l.start(command)
	defer func() {
		in.Close()
		if err := command.Wait(); err != nil {
			l.t.Errorf("the player who was moved: %v", err)
		}
	}()
	host := ""
	l.eventually("the player sits", func() bool { host = l.hostOf(operator, "guild:dragons"); return host != "" })
	hosts, err := operator.ListHosts(l.ctx, connect.NewRequest(&guildhallv1.ListHostsRequest{}))
	if err != nil {
		l.t.Fatal(err)
	}
	for _, h := range hosts.Msg.GetHosts() {
		if h.GetName() == host {
			if err := syscall.Kill(int(h.GetPid()), syscall.SIGTERM); err != nil {
				l.t.Error(err)
			}
		}
	}
	l.eventually("the room is elsewhere", func() bool { now := l.hostOf(operator, "guild:dragons"); return now != "" && now != host })
}

// hostOf gives where a group's room is, if somebody sits in it.
func (l *live) hostOf(operator guildhallv1connect.OperatorServiceClient, group string) string {
	rooms, err := operator.ListRooms(l.ctx, connect.NewRequest(&guildhallv1.ListRoomsRequest{}))
	if err != nil {
		l.t.Fatal(err)
	}
	for _, room := range rooms.Msg.GetRooms() {
		if room.GetGroup() == group && room.GetMembers() > 0 {
			return room.GetHost()
		}
	}
	return ""
}

func (l *live) run(args ...string) {
	l.t.Helper()
	if out, err := l.call(args...); err != nil {
		l.t.Errorf("guildhall %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (l *live) call(args ...string) (string, error) {
	command := exec.CommandContext(l.ctx, l.guildhall, append(args, "--json", "--server", l.server)...)
	out, err := command.CombinedOutput()
	return string(out), err
}

// eventually asks again until the answer is yes, of what can only be asked and not watched.
func (l *live) eventually(what string, yes func() bool) {
	l.t.Helper()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for !yes() {
		select {
		case <-ticker.C:
		case <-l.ctx.Done():
			l.t.Fatalf("it never came about that %s", what)
		}
	}
}

// answer is one of Prometheus' API.
type answer struct {
	Status, Error string
	Warnings      []string
	Data          json.RawMessage
	Result        []json.RawMessage `json:"-"` // of a query
}

func (l *live) ask(what string, parameters url.Values) answer {
	l.t.Helper()
	response, err := l.client.Get(l.prometheus + "/api/v1/" + what + "?" + parameters.Encode())
	if err != nil {
		l.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	var a answer
	if err := json.Unmarshal(body, &a); err != nil {
		l.t.Fatalf("%s: %v: %s", what, err, body)
	}
	var data struct{ Result []json.RawMessage }
	if what == "query" && json.Unmarshal(a.Data, &data) == nil {
		a.Result = data.Result
	}
	return a
}

// rulesAreHealthy sees to it that every rule has been loaded and evaluated.
func (l *live) rulesAreHealthy() {
	l.t.Helper()
	records, alerts := readRules(l.t)
	type loaded struct{ Name, Health, LastError string }
	var rules []loaded
	l.eventually("all rules have been evaluated", func() bool {
		var groups struct{ Groups []struct{ Rules []loaded } }
		if err := json.Unmarshal(l.ask("rules", nil).Data, &groups); err != nil {
			l.t.Fatal(err)
		}
		rules = nil
		for _, group := range groups.Groups {
			rules = append(rules, group.Rules...)
		}
		return !slices.ContainsFunc(rules, func(r loaded) bool { return r.Health == "unknown" })
	})
	if want := len(records) + len(alerts); len(rules) != want {
		l.t.Errorf("%d rules are loaded, want %d", len(rules), want)
	}
	for _, r := range rules {
		if r.Health != "ok" {
			l.t.Errorf("%s is %s: %s", r.Name, r.Health, r.LastError)
		}
	}
}

// variables stand in expressions for what Grafana fills in.
var variables = strings.NewReplacer("$namespace", ".*", "$__rate_interval", "1m")

// mistakes says what is wrong with an expression: it is none, or names what is not there.
func (l *live) mistakes(expr string) (complaints []string) {
	l.t.Helper()
	expr = variables.Replace(expr)
	if a := l.ask("query", url.Values{"query": {expr}}); a.Status != "success" || len(a.Warnings) > 0 {
		return []string{fmt.Sprintf("%s %v", a.Error, a.Warnings)}
	}
	selectors, labels := read(expr)
	known := map[string]bool{}
	for _, s := range selectors {
		has, wrong := l.labelsOf(s)
		complaints = append(complaints, wrong...)
		for _, label := range has {
			known[label] = true
		}
	}
	for _, label := range labels {
		if !known[label] {
			complaints = append(complaints, "nothing in it has the label "+label)
		}
	}
	return complaints
}

// withCertificates is shown by directors that have some: those here speak to the stand-in, without TLS.
const withCertificates = "guildhall_director_certificate_expiry_timestamp_seconds"

// labelsOf gives the labels of a metric, and what is wrong with how it is selected.
func (l *live) labelsOf(s selector) (labels, complaints []string) {
	l.t.Helper()
	if s.name == withCertificates {
		return []string{"namespace", "pod", "what"}, nil
	}
	if labels, is := foreign[s.name]; is {
		for label := range s.labels {
			if !slices.Contains(labels, label) {
				complaints = append(complaints, s.name+" has no label "+label)
			}
		}
		return labels, complaints
	}
	var series []map[string]string
	if err := json.Unmarshal(l.ask("series", url.Values{"match[]": {s.name}}).Data, &series); err != nil {
		l.t.Fatal(err)
	}
	if len(series) == 0 {
		return nil, []string{"there is no " + s.name}
	}
	for label, wanted := range s.labels {
		pattern, err := regexp.Compile("^(?:" + wanted + ")$")
		if err != nil {
			return nil, []string{err.Error()}
		}
		if !slices.ContainsFunc(series, func(labels map[string]string) bool { return labels[label] != "" && pattern.MatchString(labels[label]) }) {
			complaints = append(complaints, fmt.Sprintf("no %s has %s=%q", s.name, label, wanted))
		}
	}
	return slices.Collect(maps.Keys(series[0])), complaints
}
