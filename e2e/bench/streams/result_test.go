package main

import (
	"strings"
	"testing"
	"time"
)

func TestRender(t *testing.T) {
	r := newResult(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	r.LogBytes = 60e6
	for _, f := range []float64{1, 3, 2} {
		r.LogMBps.add(80*f, 100*f)
		r.ExecMs.add(131*f, 100*f)
	}
	got := render(r)
	for _, want := range []string{"2026-01-02", "160.0 MB/s    200.0 MB/s       0.80 ×  at least 0.80  ok", "1.31 ×  at most 1.30   SHORT"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestShort(t *testing.T) {
	for name, row := range map[string]struct {
		log, exec float64
		want      error
	}{
		"kept": {80, 130, nil}, "a slow log": {79, 130, errShort}, "a slow exec": {80, 131, errShort},
	} {
		r := newResult(time.Now())
		r.LogMBps.add(row.log, 100)
		r.ExecMs.add(row.exec, 100)
		if err := r.short(); err != row.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInTurn_TheOtherOneFirst(t *testing.T) {
	var order []bool
	for i := range 2 {
		home, provider, err := inTurn(i, func(home bool) (float64, error) {
			order = append(order, home)
			return map[bool]float64{true: 1, false: 2}[home], nil
		})
		if home != 1 || provider != 2 || err != nil {
			t.Error(home, provider, err)
		}
	}
	if !order[0] || order[1] || order[2] || !order[3] {
		t.Error(order)
	}
}
