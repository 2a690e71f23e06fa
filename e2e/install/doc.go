// Package install holds the promises about installing Spillway as tests on real nodes: two fresh clusters, Spillway in pods as
// `spillway install` puts them there, then peering, upgrades, leadership and removal.
//
// It is tests only. They share one world, which the first test starts; root only.
//
//	go test -v -run TestInstall ./e2e/install
package install
