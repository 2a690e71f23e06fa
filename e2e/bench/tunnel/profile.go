package main

import (
	"fmt"
	"os"
	"runtime/pprof"
	"time"
)

// profile starts a profile that ends by itself, and writes what is on the heap now.
func (n *node) profile(o order) error {
	if o.HeapTo != "" {
		file, err := os.Create(o.HeapTo)
		if err != nil {
			return fmt.Errorf("write a profile: %w", err)
		}
		defer file.Close()
		if err := pprof.Lookup("heap").WriteTo(file, 0); err != nil {
			return fmt.Errorf("write a profile: %w", err)
		}
	}
	if o.Profile == 0 {
		return nil
	}
	file, err := os.Create(o.ProfileTo)
	if err != nil {
		return fmt.Errorf("write a profile: %w", err)
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return fmt.Errorf("write a profile: %w", err)
	}
	go func() {
		select {
		case <-time.After(o.Profile):
		case <-n.ctx.Done():
		}
		pprof.StopCPUProfile()
		_ = file.Close()
	}()
	return nil
}
