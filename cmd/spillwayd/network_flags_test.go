package main

import (
	"strings"
	"testing"
)

func TestNetworkOptions(t *testing.T) {
	for name, row := range map[string]struct {
		options networkOptions
		want    string // part of the error; empty: none
	}{
		"defaults":               {networkOptions{gateways: 1}, ""},
		"all":                    {networkOptions{podRanges: []string{"10.244.0.0/16", "fd00:1::/48"}, serviceRanges: []string{"10.96.0.0/12"}, aliasPools: []string{"240.0.0.0/8"}}, ""},
		"too many gateways":      {networkOptions{gateways: 9}, "--gateways 9"},
		"an address":             {networkOptions{podRanges: []string{"10.244.0.0"}}, "--pod-ranges"},
		"the default route":      {networkOptions{podRanges: []string{"0.0.0.0/0"}}, "the default route"},
		"an IPv6 pool":           {networkOptions{aliasPools: []string{"fd00::/48"}}, "IPv4"},
		"a service range is not": {networkOptions{serviceRanges: []string{"x"}}, "--service-ranges"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := row.options.parse()
			if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, want %q", err, row.want)
			}
		})
	}
}
