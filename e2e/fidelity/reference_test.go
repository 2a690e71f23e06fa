package fidelity

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// reason is why something differs by design: the beginning of its row in docs/reference.md.
type reason string

const (
	serviceAccount reason = "the token of the service account"
	hostAddress    reason = "the address of the node, in the environment"
	kubeletWords   reason = "names inside the kubelet's messages"
	zeroRequests   reason = "requests of zero, in the status"
	ownMarks       reason = "all labels or annotations, as a file"
	hostDomain     reason = "the domain of the pod's own name"
	podSecurity    reason = "what the peer's pod security forbids"
	sandboxAtEnd   reason = "the condition PodReadyToStartContainers of a pod that has ended"
	resolverFile   reason = "`/etc/resolv.conf`"
	apiServer      reason = "`KUBERNETES_SERVICE_HOST`"
)

// reasons are all of them.
func reasons() []reason {
	return []reason{serviceAccount, hostAddress, kubeletWords, zeroRequests, ownMarks, hostDomain, podSecurity, sandboxAtEnd, resolverFile, apiServer}
}

// TestReference_ListsWhatDiffersByDesign holds that docs/reference.md and the table tell the same.
func TestReference_ListsWhatDiffersByDesign(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "reference.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(page), "## What differs for a pod that runs in a peer\n")
	if !ok {
		t.Fatal("docs/reference.md has no section of what differs")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	for _, why := range reasons() {
		if !strings.Contains(section, "\n| "+string(why)+" |") {
			t.Errorf("docs/reference.md has no row %q", why)
		}
	}
	if rows := strings.Count(section, "\n| ") - 1; rows != len(reasons()) {
		t.Errorf("docs/reference.md has %d rows, the table %d reasons: show each by a shape, or take it away", rows, len(reasons()))
	}
	for _, s := range shapes() {
		for key, why := range s.differs {
			if !slices.Contains(reasons(), why) {
				t.Errorf("shape %s: %q differs because of %q, which is not among reasons()", s.name, key, why)
			}
		}
	}
}
