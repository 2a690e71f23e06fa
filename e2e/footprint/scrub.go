package footprint

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// linesOf says how an object is, one line per field: `spec.replicas = 2`.
func linesOf(kind string, object map[string]any) []string {
	var out []string
	walk("", object, func(path string, value any) {
		if restless(kind, path) {
			return
		}
		if kind == "secrets" && under(path, "data") {
			out = append(out, path+" = "+fingerprint(value))
			return
		}
		text, err := json.Marshal(value)
		if err != nil { // what came as JSON can be written as JSON
			text = fmt.Append(nil, value)
		}
		out = append(out, path+" = "+string(text))
	})
	slices.Sort(out)
	return out
}

// walk visits every value below value that has none below it: also empty lists and maps.
func walk(path string, value any, visit func(path string, value any)) {
	switch v := value.(type) {
	case map[string]any:
		if len(v) == 0 && path != "" {
			visit(path, v)
		}
		for key, below := range v {
			walk(join(path, key), below, visit)
		}
	case []any:
		if len(v) == 0 {
			visit(path, v)
		}
		for i, below := range v {
			walk(fmt.Sprintf("%s[%d]", path, i), below, visit)
		}
	default:
		visit(path, v)
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// restless says whether a field changes by itself: versions, heartbeats, times of what has not changed otherwise. It is judged by
// the name of the field, and by its place where that is not enough.
func restless(kind, path string) bool {
	switch last := lastField(path); last {
	case "lastHeartbeatTime", "lastTransitionTime", "lastProbeTime", "lastUpdateTime", "observedGeneration":
		return true
	case "renewTime", "acquireTime", "leaseTransitions", "pingTime":
		return under(path, "spec")
	case "last-change-trigger-time": // of EndpointSlices, the end of an annotation's name
		return true
	}
	switch {
	case path == "apiVersion", path == "kind", path == "metadata.resourceVersion", path == "metadata.generation",
		under(path, "metadata.managedFields"):
		return true
	case kind == "nodes":
		return under(path, "status.images") // what the kubelet keeps of images until it needs the room
	case kind == "pods": // what the kubelet reads of running containers, some time after their start
		return under(path, "status.resources") || under(path, "status.allocatedResources") ||
			under(path, "status.containerStatuses") && strings.Contains(path, "esources")
	case kind == "leases.coordination.k8s.io":
		return path == "spec.holderIdentity" // who leads among equals
	}
	return false
}

// lastField is the end of a path: of `a.b/c[0]` it is c.
func lastField(path string) string {
	if strings.HasSuffix(path, "]") {
		path = path[:strings.LastIndexByte(path, '[')]
	}
	return path[strings.LastIndexAny(path, "./")+1:]
}

// under says whether path is that of parent or of something below it.
func under(path, parent string) bool {
	if len(path) < len(parent) || path[:len(parent)] != parent {
		return false
	}
	return len(path) == len(parent) || path[len(parent)] == '.' || path[len(parent)] == '['
}

// fingerprint tells contents apart without showing them.
func fingerprint(value any) string {
	sum := sha256.Sum256(fmt.Append(nil, value))
	return fmt.Sprintf("(sha256 %x…)", sum[:6])
}
