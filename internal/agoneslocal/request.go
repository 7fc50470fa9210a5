package agoneslocal

import (
	"fmt"
	"maps"
	"slices"

	allocation "agones.dev/agones/pkg/allocation/go"
)

// selectorsOf gives the selectors of a request in the order in which they are tried. The deprecated fields
// count only without the new one: what is preferred first, then what is required, which without a word
// is any Ready game server.
func selectorsOf(in *allocation.AllocationRequest) []*allocation.GameServerSelector {
	if selectors := in.GetGameServerSelectors(); len(selectors) > 0 {
		return selectors
	}
	preferred := in.GetPreferredGameServerSelectors() //nolint:staticcheck // old clients send it
	required := in.GetRequiredGameServerSelector()    //nolint:staticcheck // old clients send it
	return append(slices.Clone(preferred), required)
}

// metadataOf gives what a request sets on the game server; the deprecated field counts only without the new one.
func metadataOf(in *allocation.AllocationRequest) *allocation.MetaPatch {
	if metadata := in.GetMetadata(); metadata != nil {
		return metadata
	}
	return in.GetMetaPatch() //nolint:staticcheck // old clients send it
}

// checkRequest tells what is wrong with a request. All its selectors are looked at, the deprecated ones too.
func checkRequest(in *allocation.AllocationRequest) []string {
	var faults []string
	all := append(slices.Clone(in.GetGameServerSelectors()), in.GetPreferredGameServerSelectors()...) //nolint:staticcheck // old clients send it
	for _, selector := range append(all, in.GetRequiredGameServerSelector()) {                        //nolint:staticcheck // old clients send it
		faults = append(faults, checkSelector(selector)...)
	}
	for i, priority := range in.GetPriorities() {
		if priority.GetKey() == "" {
			faults = append(faults, fmt.Sprintf("priority %d has no key", i))
		}
	}
	faults = append(faults, checkActions(in)...)
	metadata := metadataOf(in)
	return append(faults, checkMetadata(metadata.GetLabels(), metadata.GetAnnotations())...)
}

func checkSelector(selector *allocation.GameServerSelector) []string {
	faults := checkLabels(selector.GetMatchLabels())
	for _, name := range slices.Sorted(maps.Keys(selector.GetCounters())) {
		counter := selector.GetCounters()[name]
		faults = append(faults, checkRange("count of counter", name, counter.GetMinCount(), counter.GetMaxCount())...)
		faults = append(faults, checkRange("free part of counter", name, counter.GetMinAvailable(), counter.GetMaxAvailable())...)
	}
	for _, name := range slices.Sorted(maps.Keys(selector.GetLists())) {
		list := selector.GetLists()[name]
		faults = append(faults, checkRange("free part of list", name, list.GetMinAvailable(), list.GetMaxAvailable())...)
	}
	return faults
}

// checkRange tells what is wrong with a range whose end 0 means none.
func checkRange(what, name string, least, most int64) []string {
	if least < 0 || most < 0 || most != 0 && most < least {
		return []string{fmt.Sprintf("%s %q: %d to %d is no range", what, name, least, most)}
	}
	return nil
}

func checkActions(in *allocation.AllocationRequest) []string {
	var faults []string
	for _, name := range slices.Sorted(maps.Keys(in.GetCounters())) {
		action := in.GetCounters()[name]
		switch {
		case action.GetAmount().GetValue() < 0 || action.GetCapacity().GetValue() < 0:
			faults = append(faults, fmt.Sprintf("counter %q: the amount or the capacity is negative", name))
		case (action.GetAmount() == nil) != (action.GetAction() == nil):
			faults = append(faults, fmt.Sprintf("counter %q: an action needs an amount, and the other way round", name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(in.GetLists())) {
		if in.GetLists()[name].GetCapacity().GetValue() < 0 {
			faults = append(faults, fmt.Sprintf("list %q: the capacity is negative", name))
		}
	}
	return faults
}
