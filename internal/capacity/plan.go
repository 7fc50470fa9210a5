// Package capacity reckons how much of each part an installation needs for so many players and groups, and what limits it
// first, from what each part costs (units.go). It is arithmetic: same load, same plan. docs/scaling.md tells what has been
// measured of it, and what has not.
package capacity

import (
	"cmp"
	"math"
	"slices"
)

// Plan is what an installation needs for a load. Rates are for each second, cores those of processors as in
// docs/benchmarks.md.
type Plan struct {
	Load Load `json:"load"`
	// Deliveries is messages times members.
	Deliveries float64 `json:"deliveries_per_second"`
	// Opens is how many rooms open, and end.
	Opens     float64   `json:"rooms_opened_per_second"`
	Hosts     Hosts     `json:"hosts"`
	Frontend  Service   `json:"frontend"`
	Director  Director  `json:"director"`
	Matcher   Service   `json:"matchfunction"`
	OpenMatch OpenMatch `json:"open_match"`
	Allocator Allocator `json:"allocator"`
	NATS      NATS      `json:"nats"`
	// Limits are in the order in which they are reached: the first limits first.
	Limits []Limit `json:"limits"`
}

// Service is a part that runs as replicas.
type Service struct {
	Replicas int `json:"replicas"`
	// Cores and MemoryMiB are of each.
	Cores     float64 `json:"cores"`
	MemoryMiB float64 `json:"memory_mib"`
}

// Hosts are the game servers and what they run on.
type Hosts struct {
	Service
	Nodes        int `json:"nodes"`
	PortsPerNode int `json:"ports_per_node"`
	// Clusters is how many Kubernetes clusters they are spread over.
	Clusters int `json:"clusters"`
}

// Director is the directors and how many profiles each kind has.
type Director struct {
	Service
	Shards int `json:"shards"`
}

// OpenMatch is Open Match and its Redis.
type OpenMatch struct {
	Tickets  float64 `json:"tickets_per_second"`
	Cores    float64 `json:"cores"` // of all its services together
	RedisMiB float64 `json:"redis_mib"`
}

// Allocator is Agones' part.
type Allocator struct {
	Allocations float64 `json:"allocations_per_second"`
	// FromNothing is how long all hosts take to be allocated when there are none yet.
	FromNothing float64 `json:"from_nothing_seconds"`
}

// NATS is the NATS cluster, with three replicas of everything.
type NATS struct {
	Service
	Streams         int     `json:"log_streams"`
	Appends         float64 `json:"appends_per_second"`
	DiskGiB         float64 `json:"disk_gib"` // of each node, with as much history as is kept
	ReplicationMBps float64 `json:"replication_mb_per_second"`
	// RestartSeconds is how long a node reads before it is back.
	RestartSeconds float64 `json:"restart_seconds"`
}

// Limit is something that there is only so much of.
type Limit struct {
	What string `json:"what"`
	// Demand is how much of it the load takes, of what there can be at most; Use is the share.
	Demand float64 `json:"demand"`
	Most   float64 `json:"most"`
	Use    float64 `json:"use"`
	In     string  `json:"in"`
	// Then is what to do when it is reached.
	Then string `json:"then"`
}

const (
	replicas     = 3    // of everything in NATS
	serviceCores = 2    // of a frontend or director
	full         = 0.75 // the share of a service's cores that is counted on
	baseMiB      = 100  // of a service that does nothing
	reapEvery    = 10.0 // seconds between two looks of a director at all claims
	micro        = 1e-6
)

// New reckons the plan of a load, which must be one that [Load.Check] finds nothing wrong with.
func New(load Load) Plan {
	p := Plan{Load: load, Deliveries: load.MessagesPerSecond * load.members(), Opens: load.opens()}
	p.Hosts = load.hosts()
	p.Frontend = load.frontends(p.Hosts.Replicas)
	p.OpenMatch = load.openMatch(p.Frontend.Replicas)
	p.Director = load.directors(p.Hosts.Replicas)
	p.Matcher = Service{Replicas: 2, Cores: 1, MemoryMiB: baseMiB}
	p.Allocator = load.allocator(p.Hosts.Replicas, p.Director.Replicas)
	p.NATS = load.nats(p)
	p.Limits = load.limits(p)
	return p
}

// hosts: as many as the rooms need, or the cores, whichever are more.
func (l Load) hosts() Hosts {
	cpu := l.Margin * micro * (l.MessagesPerSecond*(hostMessage.value+hostDelivery.value*l.members()) + l.Churn*hostSeat.value)
	most := float64(min(l.NodeCores, 4)) * full // a host of more cores is not a common pod
	h := Hosts{Service: Service{Replicas: max(whole(l.Margin*float64(l.Groups)/float64(l.RoomsPerHost)), whole(cpu/most))}}
	count := float64(h.Replicas)
	h.Cores = cpu / count / full
	h.MemoryMiB = hostBase.value + (l.Margin*float64(l.Players)*hostPlayer.value+l.Margin*float64(l.Groups)*hostRoom.value)/count/1024
	byCores := cpu / full / float64(l.NodeCores)
	byMemory := count * h.MemoryMiB / 1024 / (float64(l.NodeMemory) * 0.9) // the rest is the system's
	h.Nodes = max(whole(count/float64(l.NodeHosts)), whole(byCores), whole(byMemory))
	h.PortsPerNode = whole(count / float64(h.Nodes))
	h.Clusters = whole(count / clusterHosts.value)
	return h
}

// service is as many replicas as the work takes, where each has some that does not become less with their number.
func service(work, fixed, memoryMiB float64) Service {
	cores := max(serviceCores, math.Ceil(2*fixed/full))
	n := max(2, whole(work/(cores*full-fixed)))
	return Service{Replicas: n, Cores: cores, MemoryMiB: baseMiB + memoryMiB/float64(n)}
}

// leases is what a frontend or a director does for the leases of so many hosts, which each is told of once a second.
func (l Load) leases(hosts int) float64 { return l.Margin * micro * float64(hosts) * leaseTold.value }

func (l Load) frontends(hosts int) Service {
	waiting := l.Margin * l.opens() * cycle.value
	return service(l.Margin*micro*l.Churn*frontendEnter.value, l.leases(hosts), waiting*frontendWait.value/1024)
}

func (l Load) directors(hosts int) Director {
	match := directorMatch.value + float64(hosts)*directorHosts.value
	look := micro * float64(l.Groups) * claimListed.value / reapEvery
	return Director{
		Service: service(l.Margin*micro*l.opens()*match, l.leases(hosts)+l.Margin*look, 0),
		Shards:  max(1, whole(l.Margin*l.opens()/shardRate.value)),
	}
}

// openMatch: players of a group who wait at different frontends have a ticket each.
func (l Load) openMatch(frontends int) OpenMatch {
	others := l.Churn / float64(l.Groups) * cycle.value // who come to the group while its first player waits
	rate := l.opens() * (1 + min(others, float64(frontends-1)))
	return OpenMatch{
		Tickets: rate, Cores: l.Margin * micro * rate * ticketCPU.value,
		RedisMiB: l.Margin * rate * ticketKept.value * ticketRedis.value / (1 << 20),
	}
}

// allocator: a director allocates one host at a time, and each takes a batch wait and a little.
func (l Load) allocator(hosts, directors int) Allocator {
	const little = 0.02
	return Allocator{
		Allocations: l.opens() / float64(l.RoomsPerHost),
		FromNothing: float64(hosts) * (l.BatchWait + little) / float64(directors),
	}
}

func (l Load) nats(p Plan) NATS {
	entry := entryBytes.value + float64(l.MessageBytes)
	appends := l.MessagesPerSecond + l.opens() // the barriers
	watchers := float64(p.Frontend.Replicas + p.Director.Replicas)
	hosts := float64(p.Hosts.Replicas)
	cpu := l.Margin * micro * (appends*appendCPU.value +
		(2*l.opens()+hosts)*claimWrite.value +
		(l.Churn+4*l.opens())*claimRead.value +
		watchers*hosts*leaseTold.value/2 +
		float64(p.Director.Replicas)*float64(l.Groups)*claimListed.value/reapEvery/2)
	nodes := max(replicas, whole(cpu/full/float64(l.NodeCores)))
	n := NATS{Service: Service{Replicas: nodes + 1 - nodes%2}, Appends: appends}
	share := replicas / float64(n.Replicas)
	n.Cores = max(2, cpu/full/float64(n.Replicas))
	n.MemoryMiB = baseMiB*4 + float64(l.Groups)*groupMemory.value*share/(1<<20)
	n.Streams = max(4, whole(l.Margin*appends/streamAppends.value))
	n.DiskGiB = l.Margin * float64(l.Groups) * (float64(l.History)*entry + claimBytes.value) * share / (1 << 30)
	n.ReplicationMBps = appends * entry * (replicas - 1) / 1e6
	n.RestartSeconds = float64(l.Groups) * restart.value * micro * share
	return n
}

// limits tells what there is only so much of, however many replicas there are.
func (l Load) limits(p Plan) []Limit {
	hosts := float64(p.Hosts.Replicas)
	limits := []Limit{
		{What: "tickets of one Open Match", Demand: p.OpenMatch.Tickets, Most: tickets.value, In: "a second", Then: "another Open Match for some of the kinds"},
		{What: "claims read from one stream", Demand: l.Churn + 4*l.opens(), Most: 1 / micro / claimRead.value, In: "a second", Then: "several buckets of claims; not built"},
		{What: "claims written to one stream", Demand: 2 * l.opens(), Most: 2 / micro / claimWrite.value, In: "a second", Then: "several buckets of claims; not built"},
		{What: "leases renewed in one stream", Demand: hosts, Most: 2 / micro / claimWrite.value, In: "a second", Then: "more rooms on a host, or a longer lease"},
		{What: "claims that a director looks through in 10 s", Demand: float64(l.Groups), Most: reapEvery / micro / claimListed.value, In: "claims", Then: "looking less often; what is left over stays longer"},
		{What: "hosts that a director asks in 10 s", Demand: hosts, Most: reapEvery / hostAsked.value * 1000, In: "hosts", Then: "nothing at first: what is left over stays longer; more rooms on a host"},
		{What: "appends to the log's streams", Demand: p.NATS.Appends, Most: float64(p.NATS.Streams) * streamAppends.value, In: "a second", Then: "more streams, which must be said before the installation's first start"},
		{What: "ports of a node", Demand: float64(p.Hosts.PortsPerNode), Most: hostPorts.value, In: "hosts", Then: "a wider range of ports for Agones"},
		{What: "hosts of the Kubernetes clusters", Demand: hosts, Most: float64(p.Hosts.Clusters) * clusterHosts.value, In: "hosts", Then: "another cluster, or more rooms on a host"},
		{What: "players in a room", Demand: l.members(), Most: float64(l.KindCapacity), In: "players", Then: "a larger capacity of the kind"},
	}
	for i := range limits {
		limits[i].Use = limits[i].Demand / limits[i].Most
	}
	slices.SortStableFunc(limits, func(a, b Limit) int { return cmp.Compare(b.Use, a.Use) })
	return limits
}

// whole is the least whole number of things that is enough.
func whole(n float64) int { return max(1, int(math.Ceil(n))) }
