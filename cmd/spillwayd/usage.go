package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/spillway-dev/spillway/peering"
	"github.com/spillway-dev/spillway/peering/usage"
)

// usagePort is where the chart lets tenants' questions in.
const usagePort = 9444

// leastUsageInterval is about what it takes to ask all kubelets.
const leastUsageInterval = time.Second

// usageOptions are the flags of what tenants are told about their pods' usage.
type usageOptions struct {
	address, pod string
	interval     time.Duration
	insecure     bool
}

func (o *usageOptions) addTo(f *pflag.FlagSet) {
	f.StringVar(&o.address, "usage-address", "",
		"as provider, tell tenants what their pods use at this IP or IP:PORT, for example $(POD_IP); without PORT at 9444, and PORT 0 is a free one (default: do not, and their kubectl top knows nothing of their pods here)")
	f.StringVar(&o.pod, "usage-pod", os.Getenv("POD_NAME"),
		"name of the pod in "+systemNamespace+" that has the address of usage-address, that is of this process's own: the API server hands on what tenants ask to pods only (default: $POD_NAME)")
	f.DurationVar(&o.interval, "usage-interval", 10*time.Second,
		"how often at most kubelets are asked, and how old figures may be; they are asked only while a tenant asks. Kubelets themselves look every 10 s or so")
	f.BoolVar(&o.insecure, "usage-kubelet-insecure-tls", false, "do not verify the certificates of kubelets: where these are not of the cluster's authority")
}

// parse gives where to listen; not valid: nowhere.
func (o *usageOptions) parse() (at netip.AddrPort, err error) {
	if o.address == "" {
		return at, nil
	}
	at, err = netip.ParseAddrPort(o.address)
	if ip, bare := netip.ParseAddr(o.address); bare == nil {
		at, err = netip.AddrPortFrom(ip, usagePort), nil
	}
	if err != nil {
		return at, fmt.Errorf("--usage-address %q: give an address and a port such as 192.0.2.7:9444", o.address)
	}
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	switch ip := at.Addr(); {
	case !ip.IsGlobalUnicast() || ip.Zone() != "":
		return at, fmt.Errorf("--usage-address %s: give the address of the pod this runs in: the API server hands nothing on to an address that is only this machine's own, and endpoints of Services may not hold one", o.address)
	case o.pod == "":
		return at, fmt.Errorf("--usage-address needs --usage-pod: the name of the pod this runs in, as the API server hands requests on to pods only")
	case o.interval < leastUsageInterval:
		return at, fmt.Errorf("--usage-interval %s: give %s or more", o.interval, leastUsageInterval)
	}
	return at, nil
}

// start tells tenants what their pods use until ctx ends; stopped then waits for the end.
func (o *usageOptions) start(ctx context.Context, cfg peering.Config, controller *peering.Controller) (stopped func(), err error) {
	at, err := o.parse()
	if err != nil || !at.IsValid() {
		return func() {}, err
	}
	server, err := usage.New(usage.Config{
		REST: cfg.REST, Client: cfg.Client, Source: controller.Occupancy(), Address: at, Pod: o.pod,
		Interval: o.interval, InsecureKubelets: o.insecure, Log: cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Run(ctx)
	}()
	return func() { <-done }, nil
}
