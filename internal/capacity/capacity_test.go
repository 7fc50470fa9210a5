package capacity

import (
	"flag"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of units into docs/scaling.md")

// usual is a load from which tests go.
func usual() Load {
	return Load{
		Players: 100_000, Groups: 5_000, MessagesPerSecond: 2_000, MessageBytes: 120, Churn: 60, KindCapacity: 1000, RoomsPerHost: 50,
		History: 1000, NodeCores: 16, NodeMemory: 64, NodeHosts: 100, BatchWait: 0.5, Margin: 1.3,
	}
}

// TestUnitsAreThoseOfTheDocument: whoever reads docs/scaling.md reads what is reckoned with.
func TestUnitsAreThoseOfTheDocument(t *testing.T) {
	t.Parallel()
	const page, begin, end = "../../docs/scaling.md", "<!-- units -->\n\n", "\n<!-- /units -->"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	table, after, ends := strings.Cut(rest, end)
	if !found || !ends {
		t.Fatalf("%s has no %q and %q", page, begin, end)
	}
	if *update {
		if err := os.WriteFile(page, []byte(before+begin+unitsTable()+end+after), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if table != unitsTable() {
		t.Errorf("the table of %s is another than units.go's; go test ./internal/capacity -update writes it", page)
	}
}

// TestUnitsSayWhereTheyAreFrom: each names a page of docs that is there and has what it names, or says that nobody measured it.
func TestUnitsSayWhereTheyAreFrom(t *testing.T) {
	t.Parallel()
	for _, u := range units {
		if u.value <= 0 || u.in == "" || u.from == "" {
			t.Errorf("%+v is not complete", u)
		}
		page, rest, isPage := strings.Cut(u.from, ".md, ")
		if !isPage {
			continue
		}
		text, err := os.ReadFile("../../docs/" + page + ".md")
		section, _, _ := strings.Cut(rest, ":")
		if err != nil || !strings.Contains(string(text), "# "+section+"\n") {
			t.Errorf("%s is from %s.md, %q, which is not there: %v", u.what, page, section, err)
		}
	}
}

// TestMoreIsNeverLess: more players, groups, messages or joins never need fewer hosts, nodes, streams or processors.
func TestMoreIsNeverLess(t *testing.T) {
	t.Parallel()
	always := []string{"hosts", "nodes", "clusters", "disk"}
	for name, grow := range map[string]func(*Load, float64){
		"players": func(l *Load, by float64) { l.Players = int(float64(l.Players) * by) },
		"groups":  func(l *Load, by float64) { l.Groups = int(float64(l.Groups) * by) },
		"messages": func(l *Load, by float64) {
			l.MessagesPerSecond *= by
		},
		"joins":   func(l *Load, by float64) { l.Churn *= by },
		"all":     func(l *Load, by float64) { l.Groups = int(float64(l.Groups) * by); l.Players = 20 * l.Groups },
		"margin":  func(l *Load, by float64) { l.Margin = min(10, by) },
		"history": func(l *Load, by float64) { l.History = min(2000, int(float64(l.History)*by)) },
	} {
		before := map[string]float64{}
		for by := 1.0; by < 1000; by *= 1.07 {
			l := usual()
			l.KindCapacity = mostPlayers
			grow(&l, by)
			if l.Groups > l.Players {
				break
			}
			if err := l.Check(); err != nil {
				t.Fatal(err)
			}
			p := New(l)
			for what, now := range map[string]float64{
				"hosts": float64(p.Hosts.Replicas), "nodes": float64(p.Hosts.Nodes), "clusters": float64(p.Hosts.Clusters),
				"cores of hosts": p.Hosts.Cores * float64(p.Hosts.Replicas), "streams": float64(p.NATS.Streams),
				"cores of frontends": p.Frontend.Cores * float64(p.Frontend.Replicas), "NATS nodes": float64(p.NATS.Replicas),
				"disk": p.NATS.DiskGiB * float64(p.NATS.Replicas), "replication": p.NATS.ReplicationMBps,
			} {
				if (name == "players" || name == "groups") && !slices.Contains(always, what) {
					continue // as many messages and joins, in larger rooms that open less often, or in smaller ones that deliver less
				}
				if now < before[what]*(1-1e-9) || math.IsNaN(now) || math.IsInf(now, 0) {
					t.Errorf("%s × %.2f needs %g %s, and fewer needed %g", name, by, now, what, before[what])
				}
				before[what] = now
			}
		}
	}
}

// TestWhatWasMeasuredIsForetold: on the machine of docs/benchmarks.md the plan gives what was measured there, within a half.
func TestWhatWasMeasuredIsForetold(t *testing.T) {
	t.Parallel()
	load := func(change func(*Load)) Plan {
		l := usual()
		l.Margin, l.Churn, l.MessagesPerSecond = 1, 0, 0
		change(&l)
		return New(l)
	}
	hostCPU := func(p Plan) float64 { return p.Hosts.Cores * float64(p.Hosts.Replicas) * full }
	small := load(func(l *Load) { l.Players, l.Groups, l.MessagesPerSecond = 1000, 100, 2000 })
	large := load(func(l *Load) { l.Players, l.Groups, l.MessagesPerSecond = 1000, 1, 20 })
	idle := load(func(l *Load) { l.Players, l.Groups = 5000, 6 })
	log := load(func(l *Load) { l.Players, l.Groups, l.History = 100_000, 100_000, 10 })
	storm := load(func(l *Load) { l.Players, l.Groups, l.Churn = 10_000, 576, 10_000 })
	for what, c := range map[string]struct{ foretold, measured float64 }{
		"deliveries for a processor, 100 rooms of 10": {small.Deliveries / hostCPU(small), 41_000},
		"deliveries for a processor, a room of 1,000": {large.Deliveries / hostCPU(large), 97_000},
		"KiB of an idle gRPC connection":              {(idle.Hosts.MemoryMiB - hostBase.value) * float64(idle.Hosts.Replicas) * 1024 / 5000, 16.6},
		"bytes on disk of a group with ten entries":   {log.NATS.DiskGiB * (1 << 30) / 100_000, 2836},
		"seconds of processors, a storm of 10,000":    {hostCPU(storm) + micro*10_000*frontendEnter.value + storm.OpenMatch.Cores, 9.1},
	} {
		if ratio := c.foretold / c.measured; ratio < 1/1.5 || ratio > 1.5 {
			t.Errorf("%s: %g are foretold, %g were measured", what, c.foretold, c.measured)
		}
	}
}

// TestLimitsComeInTheirOrder: what is over its limit stands first, and says what to do.
func TestLimitsComeInTheirOrder(t *testing.T) {
	t.Parallel()
	l := usual()
	l.Churn, l.Players, l.Groups = 400_000, 200_000, 100_000
	limits := New(l).Limits
	for i, limit := range limits {
		if i > 0 && limit.Use > limits[i-1].Use || limit.Then == "" || limit.What == "" || limit.Most <= 0 {
			t.Errorf("limit %d is %+v", i, limit)
		}
	}
	if first := limits[0]; first.Use <= 1 || first.What != "tickets of one Open Match" {
		t.Errorf("200,000 groups that open each second are limited by %+v first", first)
	}
}

// TestNonsenseIsNamed: each is refused by the flag's name, all at once.
func TestNonsenseIsNamed(t *testing.T) {
	t.Parallel()
	for says, change := range map[string]func(*Load){
		"--players=-1":             func(l *Load) { l.Players = -1 },
		"--groups=0":               func(l *Load) { l.Groups = 0 },
		"more than --players":      func(l *Load) { l.Groups = l.Players + 1 },
		"--kind-capacity=19 seats": func(l *Load) { l.KindCapacity = 19 },
		"--messages-per-second=-1": func(l *Load) { l.MessagesPerSecond = -1 },
		"--churn=NaN":              func(l *Load) { l.Churn = math.NaN() },
		"--message-bytes=65537":    func(l *Load) { l.MessageBytes = 65537 },
		"--rooms-per-host=0":       func(l *Load) { l.RoomsPerHost = 0 },
		"--history=2001":           func(l *Load) { l.History = 2001 },
		"--margin=0.5":             func(l *Load) { l.Margin = 0.5 },
		"--node-hosts=1001":        func(l *Load) { l.NodeHosts = 1001 },
		"--players=1000000001":     func(l *Load) { l.Players = mostPlayers + 1 },
	} {
		l := usual()
		change(&l)
		if err := l.Check(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("want an error with %q, got %v", says, err)
		}
	}
	if err := usual().Check(); err != nil {
		t.Errorf("a usual load: %v", err)
	}
	if err := (Load{}).Check(); strings.Count(err.Error(), "\n") < 5 {
		t.Errorf("an empty load is wrong in many ways, and the error has %v", err)
	}
}

func TestNumbersForPeople(t *testing.T) {
	t.Parallel()
	for n, want := range map[float64]string{
		0: "0", 0.25: "0.25", 1: "1", 12.34: "12.3", 999: "999", 1000: "1,000", 1234567.8: "1,234,568", -1234: "-1,234", 100: "100",
	} {
		if got := Grouped(n); got != want {
			t.Errorf("%g is written %s, want %s", n, got, want)
		}
	}
}
