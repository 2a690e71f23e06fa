package main

import (
	"strings"
	"testing"
	"time"
)

func TestUsageOptions(t *testing.T) {
	for name, row := range map[string]struct {
		address, pod string
		interval     time.Duration
		want         string // part of the error; empty: none
	}{
		"off":             {"", "", 0, ""},
		"a pod":           {"10.244.1.7:9444", "spillwayd-0", 10 * time.Second, ""},
		"an address":      {"10.244.1.7", "spillwayd-0", 10 * time.Second, ""},
		"IPv6, alone":     {"fd00::7", "spillwayd-0", 10 * time.Second, ""},
		"IPv6":            {"[fd00::7]:9444", "spillwayd-0", 10 * time.Second, ""},
		"loopback":        {"127.0.0.1:9444", "spillwayd-0", 10 * time.Second, "only this machine's own"},
		"loopback, IPv6":  {"[::1]:9444", "spillwayd-0", 10 * time.Second, "only this machine's own"},
		"mapped loopback": {"[::ffff:127.0.0.1]:9444", "spillwayd-0", 10 * time.Second, "only this machine's own"},
		"unspecified":     {"0.0.0.0:9444", "spillwayd-0", 10 * time.Second, "only this machine's own"},
		"link-local":      {"169.254.1.1:9444", "spillwayd-0", 10 * time.Second, "only this machine's own"},
		"a zone":          {"[fe80::1%eth0]:9444", "spillwayd-0", 10 * time.Second, "only this machine's own"},
		"a port alone":    {":9444", "spillwayd-0", 10 * time.Second, "give an address and a port"},
		"no pod":          {"10.244.1.7:9444", "", 10 * time.Second, "--usage-pod"},
		"too often":       {"10.244.1.7:9444", "spillwayd-0", time.Millisecond, "--usage-interval 1ms"},
	} {
		t.Run(name, func(t *testing.T) {
			o := usageOptions{address: row.address, pod: row.pod, interval: row.interval}
			at, err := o.parse()
			if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, want %q", err, row.want)
			}
			if err == nil && at.IsValid() != (row.address != "") {
				t.Errorf("listens at %s", at)
			}
		})
	}
}
