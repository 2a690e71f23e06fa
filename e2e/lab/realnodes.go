package lab

import (
	"context"
	"errors"
)

// ErrNeedsRoot says that real nodes were asked for by a user who is not root.
var ErrNeedsRoot = errors.New("real nodes need root")

// realNodes is what package realnode has made for a lab.
type realNodes struct{}

func checkReal(_ context.Context, o Options) error {
	for _, c := range o.Clusters {
		if c.Real > 0 {
			return errors.New("real nodes are not there yet")
		}
	}
	return nil
}

func reserveReal(context.Context, *Lab) (*realNodes, error)                { return nil, nil }
func (r *realNodes) apiAddress(int) string                                 { return "" }
func (r *realNodes) start(context.Context, *Lab) error                     { return nil }
func (r *realNodes) kill(_ context.Context, cluster, node string) error    { return nil }
func (r *realNodes) restart(_ context.Context, cluster, node string) error { return nil }
func (c *Cluster) realNodeNames() []string                                 { return nil }
func cleanReal(context.Context, string) error                              { return nil }
