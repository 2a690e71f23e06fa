// Package names is a DNS forwarder that gives each asking pod the names of its own home. A namespace that a tenant has
// here may have another name than at its home; a pod of that tenant asks for SERVICE.NAMESPACE.svc.DOMAIN as at home, the
// cluster's own DNS is asked for the name here, and what it answers is given back under the name of home.
//
// It knows addresses, names and maps; it knows neither pods nor tenants nor where the table comes from.
//
//	server := names.New(names.Options{Log: log, Domain: "cluster.local"})
//	server.Set(names.Table{Upstream: upstream, Askers: map[netip.Addr]*names.Names{pod: names.Of(map[string]string{"app": "app-8f3c1d2e"})}})
//	err := server.Run(ctx, []netip.Addr{names.Address4()})
package names

import "net/netip"

// Port is where DNS is asked.
const Port = 53

// Address4 is where pods of IPv4 ask, on every node: a link-local address, so that each asks the node it is on.
func Address4() netip.Addr { return netip.AddrFrom4([4]byte{169, 254, 83, 53}) }

// Address6 is where pods of IPv6 ask, on every node. It is a unique local address (RFC 4193), since a link-local one would
// have to name the link.
func Address6() netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x53, 2: 0x70, 3: 0x69, 4: 0x6c, 5: 0x6c, 15: 0x53})
}

// Table is everything that answers depend on. It is not changed once handed over.
type Table struct {
	// Upstream is the cluster's own DNS, best first.
	Upstream []netip.AddrPort
	// Askers are the pods on this node with names of their own, by address. Others are answered as upstream does.
	Askers map[netip.Addr]*Names
	// Pods are the ranges of the cluster's pods. A pod that has just begun to run may ask before its address is known: an
	// asker of these ranges that is not in Askers is waited for.
	Pods []netip.Prefix
}

// Names maps the namespaces of one tenant. Immutable, shared by all its askers.
type Names struct {
	here map[string]string // by the name at home
	home map[string]string // by the name here
}

// Of makes Names from a map of names at home to names here. Those that are the same need not be in it.
func Of(namespaces map[string]string) *Names {
	n := &Names{here: make(map[string]string, len(namespaces)), home: make(map[string]string, len(namespaces))}
	for home, here := range namespaces {
		if home != here {
			n.here[home], n.home[here] = here, home
		}
	}
	return n
}
