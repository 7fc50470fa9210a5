package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"connectrpc.com/connect"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/api/guildhall/v1/guildhallv1connect"
	"github.com/guildhall-dev/guildhall/client"
)

type roomsCommand struct {
	serverFlag
	JSON bool `name:"json" help:"Print one JSON object a line."`
}

// Run lists the rooms.
func (c *roomsCommand) Run(ctx context.Context) error {
	response, err := c.operator().ListRooms(ctx, connect.NewRequest(&guildhallv1.ListRoomsRequest{}))
	if err != nil {
		return c.explain(err)
	}
	rows := newRows(c.JSON, "group", "host", "epoch", "members", "since")
	for _, room := range response.Msg.GetRooms() {
		var members any
		if room.Members != nil { // its host did not say
			members = room.GetMembers()
		}
		rows.add(room.GetGroup(), room.GetHost(), room.GetEpoch(), members, room.GetSince().AsTime().Format(time.RFC3339))
	}
	return rows.flush()
}

type hostsCommand struct {
	serverFlag
	JSON bool `name:"json" help:"Print one JSON object a line."`
}

// Run lists the hosts.
func (c *hostsCommand) Run(ctx context.Context) error {
	response, err := c.operator().ListHosts(ctx, connect.NewRequest(&guildhallv1.ListHostsRequest{}))
	if err != nil {
		return c.explain(err)
	}
	rows := newRows(c.JSON, "name", "state", "version", "rooms", "players", "address", "pid")
	for _, h := range response.Msg.GetHosts() {
		rows.add(h.GetName(), h.GetState(), h.GetVersion(), h.GetRooms(), h.GetPlayers(), h.GetAddress(), h.GetPid())
	}
	return rows.flush()
}

func (s *serverFlag) operator() guildhallv1connect.OperatorServiceClient {
	return guildhallv1connect.NewOperatorServiceClient(client.NewHTTPClient(), string(s.Server), connect.WithGRPC())
}

func (s *serverFlag) explain(err error) error {
	return s.Server.explain(err, "does not serve operators: give the director's address with --server")
}

// rows prints rows: a table, or one JSON object a line.
type rows struct {
	columns []string
	json    *json.Encoder
	table   *tabwriter.Writer
	err     error
}

func newRows(asJSON bool, columns ...string) *rows {
	r := &rows{columns: columns}
	if asJSON {
		r.json = json.NewEncoder(os.Stdout)
		return r
	}
	r.table = tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	for _, column := range columns {
		fmt.Fprintf(r.table, "%s\t", column)
	}
	fmt.Fprintln(r.table)
	return r
}

func (r *rows) add(values ...any) {
	if r.json != nil {
		object := fields{}
		for i, value := range values {
			object = append(object, r.columns[i], value)
		}
		r.err = errors.Join(r.err, r.json.Encode(object))
		return
	}
	for _, value := range values {
		if value == nil {
			value = "?"
		}
		fmt.Fprintf(r.table, "%v\t", value)
	}
	fmt.Fprintln(r.table)
}

func (r *rows) flush() error {
	if r.table != nil {
		return r.table.Flush()
	}
	return r.err
}
