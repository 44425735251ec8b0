//go:build !amd64

package main

var archCalls []systemCall
