package realnode_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/spillway-dev/spillway/e2e/lab"
)

// top: metrics-server has figures of the nodes and the pods, and kubectl shows them.
func (c *clusters) top() {
	kubectl, err := lab.Binary(c.Context(), "kubectl", logWriter{c.T})
	if err != nil {
		c.Fatal(err)
	}
	var pods, nodes []string
	for _, p := range c.pods["east"] {
		pods = append(pods, p.Name)
		nodes = append(nodes, p.Spec.NodeName)
	}
	// A rate needs two looks, and a kubelet's own figures are up to 15 s old.
	var last error
	err = wait.PollUntilContextTimeout(c.Context(), time.Second, 90*time.Second, true, func(ctx context.Context) (bool, error) {
		last = errors.Join(
			c.shown(ctx, pods, kubectl, "top", "pods", "--no-headers"),
			c.shown(ctx, nodes, kubectl, "top", "nodes", "--no-headers"),
		)
		return last == nil, nil
	})
	if err != nil {
		c.Fatal(err, last)
	}
}

// shown: kubectl's answer has a line `NAME CPU MEMORY` of each of these names.
func (c *clusters) shown(ctx context.Context, names []string, kubectl string, args ...string) error {
	cmd := exec.CommandContext(ctx, kubectl, append([]string{"--context", "east"}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.lab.Kubeconfig())
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	found := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) >= 3 && strings.HasSuffix(f[1], "m") {
			found[f[0]] = true
		}
	}
	for _, name := range names {
		if !found[name] {
			return fmt.Errorf("%s is not shown:\n%s", name, out)
		}
	}
	return nil
}
