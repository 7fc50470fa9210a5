package agoneslocal

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Kubernetes' bounds of labels and annotations.
const (
	maxPrefixLength     = 253
	maxNameLength       = 63
	maxAnnotationsBytes = 256 << 10
)

var (
	namePattern   = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`)
	prefixPattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
)

// checkKey tells what is wrong with the key of a label or an annotation: it is a name, with a DNS domain
// and a slash before it or without.
func checkKey(key string) []string {
	var faults []string
	name := key
	if prefix, rest, found := strings.Cut(key, "/"); found {
		name = rest
		if len(prefix) > maxPrefixLength || !prefixPattern.MatchString(prefix) {
			faults = append(faults, fmt.Sprintf("the prefix %q is not a DNS domain", prefix))
		}
	}
	if len(name) > maxNameLength || !namePattern.MatchString(name) {
		faults = append(faults, fmt.Sprintf("the name %q is not 1 to %d letters, digits, -, _ and .", name, maxNameLength))
	}
	return faults
}

// checkLabelValue tells what is wrong with the value of a label; it may be empty.
func checkLabelValue(value string) []string {
	if value == "" || len(value) <= maxNameLength && namePattern.MatchString(value) {
		return nil
	}
	return []string{fmt.Sprintf("the value %q is not 0 to %d letters, digits, -, _ and .", value, maxNameLength)}
}

func checkLabels(labels map[string]string) []string {
	var faults []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		for _, fault := range append(checkKey(key), checkLabelValue(labels[key])...) {
			faults = append(faults, fmt.Sprintf("label %q: %s", key, fault))
		}
	}
	return faults
}

func checkAnnotations(annotations map[string]string) []string {
	var faults []string
	size := 0
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		size += len(key) + len(annotations[key])
		for _, fault := range checkKey(strings.ToLower(key)) {
			faults = append(faults, fmt.Sprintf("annotation %q: %s", key, fault))
		}
	}
	if size > maxAnnotationsBytes {
		faults = append(faults, fmt.Sprintf("annotations have %d bytes, at most %d", size, maxAnnotationsBytes))
	}
	return faults
}

// checkMetadata tells what is wrong with labels and annotations, in an order that stays.
func checkMetadata(labels, annotations map[string]string) []string {
	return append(checkLabels(labels), checkAnnotations(annotations)...)
}
