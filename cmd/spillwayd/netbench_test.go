package main

import "testing"

func TestParseTarget(t *testing.T) {
	for text, want := range map[string]string{
		"10.1.2.3:99": "10.1.2.3:99", "10.1.2.3": "10.1.2.3:5201", "fd00::1": "[fd00::1]:5201", "[fd00::1]:7": "[fd00::1]:7",
		"": "", "name:5201": "", "10.1.2.3:x": "", "10.1.2.3:70000": "",
	} {
		got, err := parseTarget(text)
		if (err != nil) != (want == "") || err == nil && got.String() != want {
			t.Errorf("parseTarget(%q) = %s, %v; want %q", text, got, err, want)
		}
	}
}
