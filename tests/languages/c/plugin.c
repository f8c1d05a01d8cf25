// Answers every event with a text. The ABI is written by hand, to need nothing but a compiler;
// `wit-bindgen c` writes such code for all types of the contract.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

__attribute__((export_name("cabi_realloc")))
void *cabi_realloc(void *old, size_t old_size, size_t align, size_t size) {
  (void)old_size;
  return size == 0 ? (void *)align : realloc(old, size);
}

static uint8_t outcome[64] __attribute__((aligned(8)));

__attribute__((export_name("wxhost:plugin/callback-handler@0.1.0#handle")))
uint8_t *handle(uint8_t *event) {
  (void)event;
  char *text = strdup("hello from C");
  uint32_t length = strlen(text);
  memset(outcome, 0, sizeof outcome);
  outcome[4] = 1;                      // There is a reply,
  memcpy(outcome + 12, &text, 4);      // a text.
  memcpy(outcome + 16, &length, 4);
  return outcome;
}
