package agoneslocal

import (
	"math"
	"strconv"
	"time"

	allocation "agones.dev/agones/pkg/allocation/go"
	"agones.dev/agones/pkg/sdk"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	loopback = "127.0.0.1"
	// nodeName is the node of every game server.
	nodeName = "localhost"
	// addressType is what Kubernetes calls an address inside the cluster.
	addressType = "InternalIP"
)

// message gives the game server in the SDK's words. The store's lock is held.
func (g *gameServer) message() *sdk.GameServer {
	now := g.clone()
	message := &sdk.GameServer{
		ObjectMeta: &sdk.GameServer_ObjectMeta{
			Name:              now.Name,
			Namespace:         now.Namespace,
			Uid:               g.uid,
			ResourceVersion:   strconv.FormatUint(g.version, 10),
			Generation:        g.generation,
			CreationTimestamp: now.Created.Unix(),
			Annotations:       now.Annotations,
			Labels:            now.Labels,
		},
		Spec: &sdk.GameServer_Spec{Health: g.life.message()},
		Status: &sdk.GameServer_Status{
			State:     string(now.State),
			Address:   now.Address,
			Addresses: []*sdk.GameServer_Status_Address{{Type: addressType, Address: now.Address}},
			Counters:  map[string]*sdk.GameServer_Status_CounterStatus{},
			Lists:     map[string]*sdk.GameServer_Status_ListStatus{},
		},
	}
	if !g.endedAt.IsZero() {
		message.ObjectMeta.DeletionTimestamp = g.endedAt.Unix()
	}
	for _, name := range g.portNames {
		message.Status.Ports = append(message.Status.Ports, &sdk.GameServer_Status_Port{Name: name, Port: int32(now.Ports[name])})
	}
	for name, counter := range now.Counters {
		message.Status.Counters[name] = &sdk.GameServer_Status_CounterStatus{Count: counter.Count, Capacity: counter.Capacity}
	}
	for name, list := range now.Lists {
		message.Status.Lists[name] = &sdk.GameServer_Status_ListStatus{Capacity: list.Capacity, Values: list.Values}
	}
	return message
}

func (b *heartbeat) message() *sdk.GameServer_Spec_Health {
	return &sdk.GameServer_Spec_Health{
		Disabled:            b.config.Disabled,
		PeriodSeconds:       wholeSeconds(b.config.Period),
		InitialDelaySeconds: wholeSeconds(b.config.InitialDelay),
		FailureThreshold:    int32(b.config.FailureThreshold),
	}
}

func wholeSeconds(d time.Duration) int32 { return int32(math.Ceil(d.Seconds())) }

// response gives the game server in the allocator's words. The store's lock is held.
func (g *gameServer) response() *allocation.AllocationResponse {
	now := g.clone()
	response := &allocation.AllocationResponse{
		GameServerName: now.Name,
		Address:        now.Address,
		Addresses:      []*allocation.AllocationResponse_GameServerStatusAddress{{Type: addressType, Address: now.Address}},
		NodeName:       nodeName,
		Source:         "local",
		Metadata:       &allocation.AllocationResponse_GameServerMetadata{Labels: now.Labels, Annotations: now.Annotations},
		Counters:       map[string]*allocation.AllocationResponse_CounterStatus{},
		Lists:          map[string]*allocation.AllocationResponse_ListStatus{},
	}
	for _, name := range g.portNames {
		response.Ports = append(response.Ports, &allocation.AllocationResponse_GameServerStatusPort{Name: name, Port: int32(now.Ports[name])})
	}
	for name, counter := range now.Counters {
		response.Counters[name] = &allocation.AllocationResponse_CounterStatus{
			Count: wrapperspb.Int64(counter.Count), Capacity: wrapperspb.Int64(counter.Capacity),
		}
	}
	for name, list := range now.Lists {
		response.Lists[name] = &allocation.AllocationResponse_ListStatus{Values: list.Values, Capacity: wrapperspb.Int64(list.Capacity)}
	}
	return response
}
