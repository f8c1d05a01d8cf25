// Answers every event with a text. The ABI is written by hand, to need nothing but a compiler.
package main

import (
	"encoding/binary"
	"unsafe"
)

var outcome [64]byte
var reply = []byte("hello from Go")
var kept [][]byte

//go:wasmexport cabi_realloc
func cabiRealloc(old unsafe.Pointer, oldSize, align, size uint32) unsafe.Pointer {
	if size == 0 {
		return unsafe.Pointer(uintptr(align))
	}
	block := make([]byte, size+align)
	kept = append(kept, block)
	at := uintptr(unsafe.Pointer(&block[0]))
	pad := (uintptr(align) - at%uintptr(align)) % uintptr(align)
	if old != nil {
		copy(block[pad:], unsafe.Slice((*byte)(old), oldSize))
	}
	return unsafe.Pointer(&block[pad])
}

//go:wasmexport wxhost:plugin/callback-handler@0.1.0#handle
func handle(event uint32) uint32 {
	outcome = [64]byte{}
	outcome[4] = 1
	binary.LittleEndian.PutUint32(outcome[12:], uint32(uintptr(unsafe.Pointer(&reply[0]))))
	binary.LittleEndian.PutUint32(outcome[16:], uint32(len(reply)))
	return uint32(uintptr(unsafe.Pointer(&outcome[0])))
}

func main() {}
