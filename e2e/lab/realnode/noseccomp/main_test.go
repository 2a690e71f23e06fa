package main

import "testing"

func TestWithout(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"profile", `{"linux":{"seccomp":{"a":[1]},"maskedPaths":["/p"]},"n":12345678901234567890}`,
			`{"linux":{"maskedPaths":["/p"]},"n":12345678901234567890}`},
		{"no profile", `{"linux":{"maskedPaths":["/p"]}}`, `{"linux":{"maskedPaths":["/p"]}}`},
		{"no linux", `{"process":{}}`, `{"process":{}}`},
		{"null", `{"linux":null}`, `{"linux":null}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := without([]byte(tt.in), "linux", "seccomp")
			if err != nil || string(got) != tt.want {
				t.Errorf("got %s, %v, want %s", got, err, tt.want)
			}
		})
	}
}

func TestBundleOf(t *testing.T) {
	if dir, ok := bundleOf([]string{"runc", "--root", "/r", "create", "--bundle", "/b", "id"}); !ok || dir != "/b" {
		t.Errorf("got %q, %v", dir, ok)
	}
	if _, ok := bundleOf([]string{"runc", "start", "id"}); ok {
		t.Error("start has no bundle")
	}
}
