// Package nodespec is what a lab writes down for the first process of a node, and the few words they exchange afterwards.
//
// It knows only the standard library, so that the node's first process stays small. Paths are absolute; "host path" is one in the
// file system of the machine, "node path" one inside the node.
package nodespec

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Environment variables that mark every process of a lab's nodes. Containers do not inherit them.
const (
	// EnvLab holds the lab's name.
	EnvLab = "SPILLWAY_LAB"
	// EnvNode holds Spec.Dir; only processes that belong to nodes or the router have it.
	EnvNode = "SPILLWAY_LAB_NODE"
)

// Words on the standard input of a node's first process, one per line and in this order. When the input ends before the last
// one, whoever started the node is gone and the node ends as well.
const (
	// PhaseNetwork says that eth0 has its address and routes.
	PhaseNetwork = "network"
	// PhaseAPI says that the cluster's API server is ready.
	PhaseAPI = "api"
)

// Verbs of the control socket: "VERB COMPONENT\n", answered by "ok\n" or by a sentence.
const (
	// VerbKill ends the component with SIGKILL and keeps it down.
	VerbKill = "kill"
	// VerbRestart ends the component, if it runs, and starts it.
	VerbRestart = "restart"
	// VerbDial has an address, IP:PORT, in place of the component. After "ok\n" the connection leads there, over TCP.
	VerbDial = "dial"
)

// Node paths.
const (
	DirInNode     = "/node" // Spec.Dir
	ControlSocket = DirInNode + "/control.sock"
	BinInNode     = "/opt/lab/bin" // programs
	CNIInNode     = "/opt/cni/bin" // CNI plug-ins
)

// Role is what the process is for.
type Role string

const (
	// Node runs the components until it is killed.
	Node Role = "node"
	// Router holds a network namespace and does nothing else.
	Router Role = "router"
	// Images runs the components, then Run, then stops the components and ends.
	Images Role = "images"
)

// Spec describes one node.
type Spec struct {
	Lab      string `json:"lab"`
	Role     Role   `json:"role"`
	Hostname string `json:"hostname"`
	// Dir is the host path of the node's own directory; it survives a restart of the node and identifies it.
	Dir string `json:"dir"`
	// Programs maps directories in the node to directories of the host.
	Programs map[string]string `json:"programs,omitempty"`
	// Etc maps names in /etc to their contents.
	Etc map[string]string `json:"etc,omitempty"`
	// Sysctls are written once in the node's namespaces; the keys are paths below /proc/sys.
	Sysctls map[string]string `json:"sysctls,omitempty"`
	// Shadowed are machine-wide sysctls that components want to change: the node sees a file with this content in their place, so
	// that the machine keeps its own.
	Shadowed   map[string]string `json:"shadowed,omitempty"`
	Cgroups    []Cgroup          `json:"cgroups,omitempty"`
	Components []Component       `json:"components,omitempty"`
	// Rules is the node path of an nftables script to load with the network, or empty.
	Rules string `json:"rules,omitempty"`
	// Run are the commands of the role Images; they begin when somebody listens on the Unix socket Await.
	Run   [][]string `json:"run,omitempty"`
	Await string     `json:"await,omitempty"`
}

// Cgroup is one hierarchy the node joins.
type Cgroup struct {
	// Mount is where the hierarchy is mounted, on the host and in the node alike.
	Mount string `json:"mount"`
	// Options are the controllers, or name=…, of a v1 hierarchy; empty for v2.
	Options string `json:"options,omitempty"`
	// Group is the node's group, relative to Mount.
	Group string `json:"group"`
}

// Path is the host path of the node's group.
func (c Cgroup) Path() string { return filepath.Join(c.Mount, c.Group) }

// Component is a program that the node keeps running.
type Component struct {
	Name string   `json:"name"`
	Args []string `json:"args"` // the program first, as a node path
	// After is the phase that must have been reached, or empty.
	After string `json:"after,omitempty"`
}

// Read reads a Spec that Write wrote.
func Read(path string) (Spec, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Spec{}, fmt.Errorf("read node spec: %w", err)
	}
	var s Spec
	if err := json.Unmarshal(data, &s); err != nil {
		return Spec{}, fmt.Errorf("parse node spec %s: %w", path, err)
	}
	return s, nil
}

// Write writes s to path.
func (s Spec) Write(path string) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode node spec: %w", err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return fmt.Errorf("write node spec: %w", err)
	}
	return nil
}
