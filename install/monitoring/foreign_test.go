package main

// foreign are the metrics of others that dashboards name, with their labels. They are facts from these versions, and not checked
// against a live one: the stand-ins of guildhall up do not have them.
var foreign = map[string][]string{
	// Open Match 1.8: internal/app/query, backend and synchronizer, by OpenCensus' exporter, which writes the names of views
	// with underscores.
	"open_match_dev_query_total_active_tickets":            {},
	"open_match_dev_query_total_pending_tickets":           {},
	"open_match_dev_query_update_latency_bucket":           {},
	"open_match_dev_backend_tickets_assigned":              {},
	"open_match_dev_backend_tickets_released":              {},
	"open_match_dev_synchronizer_iteration_latency_bucket": {},
	// Agones 1.56: pkg/metrics and pkg/gameserverallocations, in OpenCensus' namespace agones.
	"agones_gameservers_count":                             {"type", "fleet_name", "namespace"},
	"agones_fleets_replicas_count":                         {"name", "type", "namespace"},
	"agones_fleet_counters":                                {"name", "namespace", "type", "counter"},
	"agones_fleet_autoscalers_desired_replicas_count":      {"name", "fleet_name", "namespace"},
	"agones_fleet_autoscalers_current_replicas_count":      {"name", "fleet_name", "namespace"},
	"agones_fleet_autoscalers_limited":                     {"name", "fleet_name", "namespace"},
	"agones_fleet_autoscalers_able_to_scale":               {"name", "fleet_name", "namespace"},
	"agones_gameserver_allocations_duration_seconds_count": {"fleet_name", "cluster_name", "is_multicluster", "status", "scheduling_strategy"},
	"agones_gameserver_state_duration_bucket":              {"type", "fleet_name", "namespace"},
	// prometheus-nats-exporter at e58bd1d, as the official NATS chart runs it: -varz -jsz=all -prefix=nats.
	"nats_varz_cpu":                   {"server_id"},
	"nats_varz_mem":                   {"server_id"},
	"nats_varz_in_msgs":               {"server_id"},
	"nats_varz_out_msgs":              {"server_id"},
	"nats_varz_connections":           {"server_id"},
	"nats_varz_slow_consumers":        {"server_id"},
	"nats_server_total_message_bytes": {"server_id", "server_name", "cluster", "is_meta_leader"},
	"nats_server_max_storage":         {"server_id", "server_name", "cluster", "is_meta_leader"},
	"nats_stream_total_bytes":         {"server_name", "stream_name", "stream_leader", "is_stream_leader"},
	"nats_stream_total_messages":      {"server_name", "stream_name", "stream_leader", "is_stream_leader"},
	"nats_stream_last_seq":            {"server_name", "stream_name", "stream_leader", "is_stream_leader"},
}
